CREATE OR REPLACE FUNCTION api.bury_event(p_consumer text, p_code text, p_reason text) RETURNS uuid
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = shop, pg_temp
AS $$
DECLARE
    v_after bigint;
    v_events events[];
    v_letter uuid := shop.uuid7();
BEGIN
    SELECT position INTO v_after FROM event_consumers WHERE consumer = p_consumer FOR NO KEY UPDATE;
    v_events := next_events(v_after, 1);
    IF v_events IS NULL THEN
        RETURN NULL;
    END IF;
    INSERT INTO dead_letters (id, source, payload, code, reason, attempts)
    VALUES (v_letter, 'events', jsonb_build_object('consumer', p_consumer, 'event', to_jsonb(v_events[1])), p_code,
        p_reason, 1);
    UPDATE event_consumers SET position = v_events[1].position, moved_at = clock_timestamp()
    WHERE consumer = p_consumer;
    RETURN v_letter;
END
$$;

COMMENT ON FUNCTION api.bury_event(text, text, text) IS
'Makes the next event of a consumer, which it cannot take, a dead letter, and lets it go on with the one after; gives the letter, NULL when there was no event.';
