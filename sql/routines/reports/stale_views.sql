CREATE OR REPLACE FUNCTION api.stale_views() RETURNS TABLE (view text, deadline_ms integer, staleness interval)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = shop, pg_temp
AS $$
BEGIN
    RETURN QUERY
    SELECT f.view, (1000 * extract(epoch FROM f.deadline))::integer, clock_timestamp() - s.refreshed_at
    FROM view_freshness AS f JOIN view_states AS s ON s.view = f.view
    WHERE f.enabled AND coalesce(s.retry_at <= clock_timestamp(), true)
        -- CASE: the evidence costs something, so it is looked at last.
        AND CASE WHEN s.refreshed_at > clock_timestamp() - f.max_staleness THEN false
            ELSE s.evidence IS DISTINCT FROM view_evidence(f.view) END
    ORDER BY f.turn;
END
$$;

COMMENT ON FUNCTION api.stale_views() IS
'The views that are due, those that others are built from first: older than their freshness allows, something has happened since, and no failed refresh of it is to be waited for. With the deadline to set as statement_timeout.';
