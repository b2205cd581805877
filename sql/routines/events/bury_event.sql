CREATE OR REPLACE FUNCTION api.bury_event(p_consumer text, p_after bigint, p_code text, p_reason text) RETURNS uuid
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = shop, pg_temp
AS $$
DECLARE
    v_events events[];
    v_letter uuid := shop.uuid7();
BEGIN
    -- Only the event that was tried: a twin has buried it already, or somebody moved the cursor.
    PERFORM FROM event_consumers WHERE consumer = p_consumer AND position = p_after FOR NO KEY UPDATE;
    v_events := CASE WHEN FOUND THEN next_events(p_after, 1) END;
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

COMMENT ON FUNCTION api.bury_event(text, bigint, text, text) IS
'Makes the event after this position, which a consumer cannot take, a dead letter, and lets it go on with the one after; gives the letter, NULL when there was no event or its cursor has moved.';
