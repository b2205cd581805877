CREATE OR REPLACE FUNCTION shop.record_health(p_results jsonb, p_most double precision, p_disable_hours integer)
RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = shop, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
DECLARE
    v_now timestamptz := clock_timestamp();
BEGIN
    PERFORM FROM webhook_endpoints AS w
    WHERE w.id IN (SELECT t.endpoint_id FROM delivery_attempts(p_results) AS t)
    ORDER BY w.id FOR NO KEY UPDATE;
    -- Five in a row are not one bad order any more: the whole endpoint rests, for 1, 2, 4 … 30 s. One that says that it
    -- is asked too much (429, 503) rests for as long as it says.
    UPDATE webhook_endpoints AS w
    SET failures = CASE WHEN h.ok THEN 0 ELSE w.failures + h.failed END,
        failing_since = CASE WHEN h.ok THEN NULL ELSE coalesce(w.failing_since, v_now) END,
        rests_until = CASE
            WHEN h.pause IS NOT NULL THEN v_now + make_interval(secs => least(h.pause, p_most))
            WHEN NOT h.ok AND w.failures + h.failed >= 5
                THEN v_now + make_interval(secs => least(30, power(2, least(w.failures + h.failed - 5, 5)))) END,
        last_status = h.status, last_error = h.error, last_at = v_now,
        delivered_at = CASE WHEN h.ok THEN v_now ELSE w.delivered_at END
    FROM (
        SELECT t.endpoint_id, bool_or(t.ok) AS ok, count(*) FILTER (WHERE NOT t.ok) AS failed,
            max(t.retry_after) FILTER (WHERE t.status IN (429, 503)) AS pause,
            (array_agg(t.status ORDER BY t.ok, t.position))[1] AS status,
            (array_agg(t.error ORDER BY t.ok, t.position))[1] AS error
        FROM delivery_attempts(p_results) AS t WHERE NOT t.gone GROUP BY t.endpoint_id) AS h
    WHERE w.id = h.endpoint_id;
    UPDATE webhook_endpoints AS w SET disabled_at = v_now, disabled_reason = CASE
        WHEN h.said_gone THEN 'it answered 410: gone'
        ELSE format('every delivery has failed since %s', to_char(w.failing_since AT TIME ZONE 'UTC',
            'YYYY-MM-DD HH24:MI UTC')) END
    -- Streams are sent side by side: a 410 counts whatever was answered to the others.
    FROM (
        SELECT t.endpoint_id, coalesce(bool_or(t.status = 410), false) AS said_gone
        FROM delivery_attempts(p_results) AS t GROUP BY t.endpoint_id) AS h
    WHERE w.id = h.endpoint_id AND w.disabled_at IS NULL
        AND (h.said_gone OR w.failing_since < v_now - make_interval(hours => p_disable_hours));
END
$$;

COMMENT ON FUNCTION shop.record_health(jsonb, double precision, integer) IS
'Notes how endpoints are: failures in a row, a rest after five or when they ask for one, and stopped when they say that they are gone or have failed for too long.';
