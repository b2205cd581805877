CREATE OR REPLACE FUNCTION shop.write_orders(
    p_heads shop.order_head[], p_demand shop.order_demand[], p_shares shop.order_share[], p_status text,
    p_expires_at timestamptz
) RETURNS shop.stock_move[]
LANGUAGE plpgsql VOLATILE
SET search_path = shop, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
DECLARE
    v_state text := CASE p_status WHEN 'held' THEN 'held' ELSE 'committed' END;
    v_moves stock_move[];
BEGIN
    INSERT INTO orders (id, key, customer_id, pool_id, address_id, status, currency, total_amount, ordered_at)
    SELECT h.order_id, h.key, h.customer_id, h.pool_id, h.address_id, p_status, h.currency, t.amount, h.ordered_at
    FROM unnest(p_heads) AS h
    JOIN (SELECT ord, sum(unit_amount * quantity) AS amount FROM unnest(p_demand) GROUP BY ord) AS t ON t.ord = h.ord;

    INSERT INTO order_lines (
        id, order_id, line_no, variant_id, quantity, backordered, unit_amount, total_amount, currency)
    SELECT shop.part_id(h.order_id, d.line_no), h.order_id, d.line_no, d.variant_id, d.quantity, coalesce(s.backordered, 0),
        d.unit_amount, d.unit_amount * d.quantity, h.currency
    FROM unnest(p_heads) AS h
    JOIN unnest(p_demand) AS d ON d.ord = h.ord
    LEFT JOIN (SELECT ord, line_no, sum(backordered) AS backordered FROM unnest(p_shares) WHERE backordered > 0 GROUP BY 1, 2) AS s
        ON s.ord = d.ord AND s.line_no = d.line_no;

    WITH share AS (
        SELECT s.*, h.order_id, h.key FROM unnest(p_shares) AS s JOIN unnest(p_heads) AS h ON h.ord = s.ord
    ), allocation AS (
        INSERT INTO order_allocations (id, order_id, line_id, variant_id, location_id, quantity, state, expires_at)
        SELECT shop.part_id(s.order_id, (row_number() OVER (PARTITION BY s.ord))::integer), s.order_id,
            shop.part_id(s.order_id, s.line_no), s.variant_id, s.location_id, s.quantity, v_state, p_expires_at
        FROM share AS s
    )
    SELECT array_agg(ROW(s.variant_id, s.location_id, 'available', s.location_id, v_state, s.quantity, 'order.' || p_status,
        s.order_id, s.key, NULL)::stock_move)
    INTO v_moves FROM share AS s;
    RETURN v_moves;
END
$$;

COMMENT ON FUNCTION shop.write_orders(
    shop.order_head[], shop.order_demand[], shop.order_share[], text, timestamptz
) IS 'Writes chosen orders: heads, lines, allocations; triggers add history and events. Gives the movements that are still to be applied.';
