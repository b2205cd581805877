CREATE OR REPLACE FUNCTION api.prune_deliveries(p_keep interval DEFAULT interval '3 days', p_limit integer DEFAULT 5000)
RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = shop, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
DECLARE
    v_pruned integer;
BEGIN
    WITH old AS (
        SELECT d.endpoint_id, d.position FROM webhook_deliveries AS d
        WHERE d.ended_at < now() - p_keep ORDER BY d.ended_at LIMIT p_limit FOR UPDATE SKIP LOCKED
    )
    DELETE FROM webhook_deliveries AS d USING old WHERE d.endpoint_id = old.endpoint_id AND d.position = old.position;
    GET DIAGNOSTICS v_pruned = ROW_COUNT;
    UPDATE webhook_endpoints SET previous_secret = NULL, previous_until = NULL WHERE previous_until < now();
    RETURN v_pruned;
END
$$;

COMMENT ON FUNCTION api.prune_deliveries(interval, integer) IS
'Deletes deliveries that ended longer ago: one bounded batch; gives how many, 0 when done. Forgets secrets whose overlap is over, too.';
