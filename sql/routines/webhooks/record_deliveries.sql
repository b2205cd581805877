CREATE OR REPLACE FUNCTION api.record_deliveries(
    p_results jsonb, p_attempts integer, p_first double precision, p_most double precision, p_disable_hours integer
) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = shop, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
DECLARE
    v_mine jsonb;
    v_streams integer;
BEGIN
    -- Whose lease was lost meanwhile may say nothing: somebody else sends this stream.
    SELECT jsonb_agg(m.result), count(*) INTO v_mine, v_streams FROM (
        SELECT r.result FROM jsonb_array_elements(p_results) AS r (result)
        JOIN delivery_streams AS s
            ON s.endpoint_id = (r.result ->> 'endpoint_id')::integer AND s.stream = r.result ->> 'stream'
        WHERE s.lease = (r.result ->> 'lease')::uuid
        ORDER BY s.endpoint_id, s.stream FOR UPDATE OF s) AS m;
    IF v_mine IS NULL THEN
        RETURN 0;
    END IF;
    UPDATE webhook_deliveries AS d
    SET attempts = d.attempts + 1, status = t.status, error = t.error, ms = t.ms, last_at = clock_timestamp(),
        ended_at = CASE WHEN t.ok THEN clock_timestamp() END
    FROM delivery_attempts(v_mine) AS t
    WHERE d.endpoint_id = t.endpoint_id AND d.position = t.position AND d.ended_at IS NULL;
    PERFORM bury_deliveries(v_mine, p_attempts);
    PERFORM release_streams(v_mine, p_first, p_most);
    PERFORM record_health(v_mine, p_most, p_disable_hours);
    RETURN v_streams;
END
$$;

COMMENT ON FUNCTION api.record_deliveries(jsonb, integer, double precision, double precision, integer) IS
'Writes down what became of leased streams and gives them back: what was delivered has ended, what failed waits for its next attempt, or is a dead letter after its last. Gives how many streams were still leased by who says so; the others are left alone.';
