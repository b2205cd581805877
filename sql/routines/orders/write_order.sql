CREATE OR REPLACE FUNCTION shop.write_order(
    p_head shop.order_head, p_lines shop.order_demand[], p_shares shop.order_share[]
) RETURNS integer
LANGUAGE plpgsql VOLATILE
SET search_path = shop, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
BEGIN
    -- One statement: starting one costs more than a row of it.
    WITH line AS (
        INSERT INTO order_lines (
            id, order_id, line_no, variant_id, quantity, backordered, unit_amount, total_amount, currency)
        SELECT shop.part_id(p_head.order_id, d.line_no), p_head.order_id, d.line_no, d.variant_id, d.quantity,
            (SELECT sum(s.backordered) FROM unnest(p_shares) AS s WHERE s.line_no = d.line_no),
            d.unit_amount, d.unit_amount * d.quantity, p_head.currency
        FROM unnest(p_lines) AS d
    ), allocation AS (
        INSERT INTO order_allocations (id, order_id, line_id, variant_id, location_id, quantity, state)
        SELECT shop.part_id(p_head.order_id, n::integer), p_head.order_id, shop.part_id(p_head.order_id, s.line_no),
            s.variant_id, s.location_id, s.quantity, 'committed'
        FROM unnest(p_shares) WITH ORDINALITY AS s (ord, line_no, variant_id, location_id, quantity, backordered, n)
    )
    INSERT INTO orders (id, key, customer_id, pool_id, address_id, status, currency, total_amount, ordered_at)
    SELECT p_head.order_id, p_head.key, p_head.customer_id, p_head.pool_id, p_head.address_id, 'placed', p_head.currency,
        (SELECT sum(d.unit_amount * d.quantity) FROM unnest(p_lines) AS d), p_head.ordered_at;

    RETURN apply_movements(ARRAY(
        SELECT ROW(s.variant_id, s.location_id, 'available', s.location_id, 'committed', s.quantity, 'order.placed',
            p_head.order_id, p_head.key, NULL)::stock_move
        FROM unnest(p_shares) AS s));
END
$$;

COMMENT ON FUNCTION shop.write_order(shop.order_head, shop.order_demand[], shop.order_share[]) IS 'Writes one placed order whole: head, lines, allocations, movements; triggers add history and the event.';
