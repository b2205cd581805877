CREATE OR REPLACE FUNCTION shop.wake_streams(p_endpoints integer[], p_streams text[]) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = shop, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
BEGIN
    -- A stream that waits keeps its time and its lease; yet its row is locked, so that who has just sent its last cannot
    -- delete it. Sorted, as api.record_deliveries locks.
    INSERT INTO delivery_streams AS s (endpoint_id, stream)
    SELECT DISTINCT u.endpoint_id, u.stream FROM unnest(p_endpoints, p_streams) AS u (endpoint_id, stream) ORDER BY 1, 2
    ON CONFLICT (endpoint_id, stream) DO UPDATE SET due_at = s.due_at;
END
$$;

COMMENT ON FUNCTION shop.wake_streams(integer[], text[]) IS
'Has streams sent that have something waiting; one that is being sent, or waits for its next attempt, is left as it is.';
