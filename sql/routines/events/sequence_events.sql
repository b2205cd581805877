CREATE OR REPLACE FUNCTION api.sequence_events(p_limit integer DEFAULT 1000) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = shop, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
DECLARE
    v_last bigint;
    v_moved integer;
BEGIN
    -- The lock ends after the commit is seen by all: whoever has it next sees these positions, and gives later ones.
    IF NOT EXISTS (SELECT FROM events_inbox) OR NOT pg_try_advisory_xact_lock(hashtext('ordermill.sequencer')) THEN
        RETURN 0;
    END IF;
    SELECT position INTO v_last FROM event_head FOR UPDATE;
    -- No floor, as the drain has it: of one stream an event that commits late must not be passed by the next.
    WITH moved AS (
        DELETE FROM events_inbox
        WHERE seq = ANY (ARRAY(SELECT i.seq FROM events_inbox AS i ORDER BY i.seq LIMIT p_limit))
        RETURNING seq, id, stream, kind, payload, created_at
    )
    INSERT INTO events (position, id, stream, kind, payload, created_at)
    SELECT v_last + row_number() OVER (ORDER BY m.seq), m.id, m.stream, m.kind, m.payload, m.created_at
    FROM moved AS m;
    GET DIAGNOSTICS v_moved = ROW_COUNT;
    UPDATE event_head SET position = v_last + v_moved;
    RETURN v_moved;
END
$$;

COMMENT ON FUNCTION api.sequence_events(integer) IS
'Gives committed events their positions, after all that were given before, and within a stream in the order in which they happened: one bounded batch; gives how many, 0 when none wait or another sequencer is at it.';
