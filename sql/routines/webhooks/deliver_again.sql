CREATE OR REPLACE FUNCTION shop.deliver_again(p_endpoint_id integer, p_events shop.events[]) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = shop, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
BEGIN
    -- The streams first, as api.record_deliveries locks; who is sending one has lost its lease, but keeps its time.
    PERFORM wake_streams(array_agg(p_endpoint_id), array_agg(e.stream)) FROM unnest(p_events) AS e;
    UPDATE delivery_streams AS s SET lease = NULL
    WHERE s.endpoint_id = p_endpoint_id AND s.lease IS NOT NULL
        AND s.stream IN (SELECT e.stream FROM unnest(p_events) AS e);
    -- One that somebody has locked is being replayed or discarded just now; to wait for it could be a deadlock.
    WITH dead AS (
        SELECT l.id FROM dead_letters AS l
        WHERE l.settled_at IS NULL AND l.id IN (
            SELECT d.letter_id FROM webhook_deliveries AS d
            WHERE d.endpoint_id = p_endpoint_id AND d.letter_id IS NOT NULL
                AND d.position IN (SELECT e.position FROM unnest(p_events) AS e))
        FOR NO KEY UPDATE SKIP LOCKED
    )
    UPDATE dead_letters AS l SET settled_at = clock_timestamp(), settlement = 'replayed' FROM dead WHERE l.id = dead.id;
    INSERT INTO webhook_deliveries (endpoint_id, position, event_id, stream)
    SELECT p_endpoint_id, e.position, e.id, e.stream FROM unnest(p_events) AS e ORDER BY e.position
    ON CONFLICT (endpoint_id, position) DO UPDATE
    SET attempts = 0, status = NULL, error = NULL, ms = NULL, last_at = NULL, ended_at = NULL, letter_id = NULL;
END
$$;

COMMENT ON FUNCTION shop.deliver_again(integer, shop.events[]) IS
'Has events delivered to an endpoint again, whatever became of them, with a new budget of attempts; their dead letters are closed as replayed.';
