CREATE OR REPLACE FUNCTION api.verify(p_limit integer DEFAULT 10)
RETURNS TABLE (check_name text, entry text, detail jsonb)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = shop, pg_temp
AS $$
BEGIN
    -- STABLE: all checks see one snapshot, so a shop at work is not mistaken for a broken one.
    RETURN QUERY
    SELECT * FROM (
        SELECT * FROM verify_levels()
        UNION ALL SELECT * FROM verify_allocations()
        UNION ALL SELECT * FROM verify_movements()
        UNION ALL SELECT * FROM verify_orders()
        UNION ALL SELECT * FROM verify_history()
        UNION ALL SELECT * FROM verify_keys()
        UNION ALL SELECT * FROM verify_queue()
        UNION ALL SELECT * FROM verify_events()
        UNION ALL SELECT * FROM verify_webhooks()
        UNION ALL SELECT 'partitions_ahead', 'shop', jsonb_build_object('expected', 3, 'found', api.partitions_ahead())
        WHERE api.partitions_ahead() < 3
    ) AS findings
    LIMIT p_limit;
END
$$;

COMMENT ON FUNCTION api.verify(integer) IS
'Recomputes the shop from its movements and history and names what does not agree, first things first; no row means clean. It mends nothing.';
