CREATE OR REPLACE FUNCTION shop.move_allocations(
    p_order_ids uuid[], p_to_state text, p_cause text, p_key text, p_reason text
) RETURNS integer
LANGUAGE plpgsql VOLATILE
SET search_path = shop, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
DECLARE
    v_moves stock_move[];
BEGIN
    -- The orders are locked by the caller, so their allocations stand still.
    SELECT array_agg(ROW(a.variant_id, a.location_id, a.state,
        CASE WHEN p_to_state <> 'fulfilled' THEN a.location_id END,
        CASE p_to_state WHEN 'released' THEN 'available' WHEN 'fulfilled' THEN 'customer' ELSE p_to_state END, a.quantity, p_cause, a.order_id, p_key,
        p_reason)::stock_move)
    INTO v_moves
    FROM unnest(p_order_ids) AS o (id)
    JOIN order_allocations AS a ON a.order_id = o.id AND a.id BETWEEN o.id AND shop.part_id(o.id, 65535)
    WHERE a.state IN ('held', 'committed');
    PERFORM lock_stock(array_agg(m.variant_id), array_agg(m.from_location_id)) FROM unnest(v_moves) AS m;
    UPDATE order_allocations AS a SET state = p_to_state, expires_at = NULL
    FROM unnest(p_order_ids) AS o (id)
    WHERE a.order_id = o.id AND a.id BETWEEN o.id AND shop.part_id(o.id, 65535) AND a.state IN ('held', 'committed');
    RETURN apply_movements(v_moves);
END
$$;

COMMENT ON FUNCTION shop.move_allocations(uuid[], text, text, text, text) IS
'Commits, releases or hands over all that these locked orders have allocated, as movements, and gives how many.';
