CREATE OR REPLACE FUNCTION shop.release_streams(p_results jsonb, p_first double precision, p_most double precision)
RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = shop, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
BEGIN
    -- The rows are locked, so what was added by now is seen here, and who adds more waits for this to commit.
    DELETE FROM delivery_streams AS s
    USING jsonb_to_recordset(p_results) AS r (endpoint_id integer, stream text)
    WHERE s.endpoint_id = r.endpoint_id AND s.stream = r.stream AND NOT EXISTS (
        SELECT FROM webhook_deliveries AS d
        WHERE d.endpoint_id = r.endpoint_id AND d.stream = r.stream AND d.ended_at IS NULL);
    UPDATE delivery_streams AS s SET lease = NULL, due_at = clock_timestamp() + coalesce((
        SELECT retry_delay(d.attempts, p_first, p_most, t.retry_after)
        FROM delivery_attempts(jsonb_build_array(r.result)) AS t
        JOIN webhook_deliveries AS d ON d.endpoint_id = t.endpoint_id AND d.position = t.position
        WHERE NOT t.ok AND d.ended_at IS NULL), interval '0')
    FROM jsonb_array_elements(p_results) AS r (result)
    WHERE s.endpoint_id = (r.result ->> 'endpoint_id')::integer AND s.stream = r.result ->> 'stream';
END
$$;

COMMENT ON FUNCTION shop.release_streams(jsonb, double precision, double precision) IS
'Gives streams back: due at once, or after a failure at its next attempt; one that has nothing left waiting goes.';
