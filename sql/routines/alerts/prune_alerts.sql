CREATE OR REPLACE FUNCTION api.prune_alerts(p_keep interval, p_limit integer DEFAULT 1000) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = shop, pg_temp
AS $$
DECLARE
    v_alerts integer;
    v_notices integer;
BEGIN
    IF p_keep IS NULL OR p_keep < interval '1 day' THEN
        RAISE EXCEPTION 'alerts are kept for at least a day' USING ERRCODE = 'OM011';
    END IF;
    WITH old AS (
        SELECT a.id FROM alerts AS a WHERE a.recovered_at < now() - p_keep
        ORDER BY a.recovered_at LIMIT p_limit FOR UPDATE SKIP LOCKED
    )
    DELETE FROM alerts AS a USING old WHERE a.id = old.id;
    GET DIAGNOSTICS v_alerts = ROW_COUNT;
    WITH old AS (
        SELECT n.id FROM alert_notices AS n WHERE n.sent_at < now() - p_keep
        ORDER BY n.sent_at LIMIT p_limit FOR UPDATE SKIP LOCKED
    )
    DELETE FROM alert_notices AS n USING old WHERE n.id = old.id;
    GET DIAGNOSTICS v_notices = ROW_COUNT;
    RETURN v_alerts + v_notices;
END
$$;

COMMENT ON FUNCTION api.prune_alerts(interval, integer) IS
'Deletes alerts whose level recovered, and notices that were sent, longer ago than this: one bounded batch; gives how many rows, 0 when done. What has not recovered is never deleted.';
