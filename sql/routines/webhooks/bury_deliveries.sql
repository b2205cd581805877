CREATE OR REPLACE FUNCTION shop.bury_deliveries(p_results jsonb, p_attempts integer) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = shop, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
BEGIN
    WITH spent AS MATERIALIZED (
        SELECT d.endpoint_id, d.position, d.event_id, d.stream, d.attempts, d.status, d.error, t.gone, uuid7() AS letter
        FROM delivery_attempts(p_results) AS t
        JOIN webhook_deliveries AS d ON d.endpoint_id = t.endpoint_id AND d.position = t.position
        WHERE d.ended_at IS NULL AND NOT t.ok AND (d.attempts >= p_attempts OR t.gone)
    ), letters AS (
        INSERT INTO dead_letters (id, source, task, key, payload, code, reason, attempts)
        SELECT s.letter, 'webhooks', 'webhooks.deliver', e.payload ->> 'key', jsonb_build_object(
                'endpoint', w.name, 'endpoint_id', s.endpoint_id, 'position', s.position, 'event_id', s.event_id,
                'stream', s.stream, 'kind', e.kind, 'status', s.status, 'data', e.payload),
            CASE WHEN s.gone THEN 'OM044' ELSE 'OM043' END, format('%s: %s', w.name, s.error), s.attempts
        FROM spent AS s JOIN webhook_endpoints AS w ON w.id = s.endpoint_id LEFT JOIN events AS e ON e.id = s.event_id
    )
    UPDATE webhook_deliveries AS d SET ended_at = clock_timestamp(), letter_id = s.letter
    FROM spent AS s WHERE d.endpoint_id = s.endpoint_id AND d.position = s.position;
END
$$;

COMMENT ON FUNCTION shop.bury_deliveries(jsonb, integer) IS
'Makes dead letters of the deliveries among these that failed for the last time, so that their streams go on.';
