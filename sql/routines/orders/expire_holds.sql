CREATE OR REPLACE FUNCTION api.expire_holds(p_limit integer DEFAULT 100) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = shop, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
DECLARE
    v_orders uuid[];
BEGIN
    -- An order that somebody is confirming or cancelling is skipped: the next run sees what became of it.
    SELECT array_agg(id) INTO v_orders FROM (
        SELECT o.id FROM orders AS o
        WHERE o.id IN (
            SELECT a.order_id FROM order_allocations AS a
            WHERE a.state = 'held' AND a.expires_at <= clock_timestamp()
            GROUP BY a.order_id ORDER BY min(a.expires_at) LIMIT p_limit)
            AND o.status = 'held'
        ORDER BY o.id FOR NO KEY UPDATE SKIP LOCKED
    ) AS due;
    IF v_orders IS NULL THEN
        RETURN 0;
    END IF;
    PERFORM move_allocations(v_orders, 'released', 'order.expired', NULL, NULL);
    UPDATE orders SET status = 'expired' WHERE id = ANY (v_orders);
    RETURN cardinality(v_orders);
END
$$;

COMMENT ON FUNCTION api.expire_holds(integer) IS 'Expires holds that ran out and gives their stock back: one bounded batch; gives how many orders, 0 when done.';
