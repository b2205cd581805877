CREATE OR REPLACE FUNCTION api.replay_event(p_letter_id uuid) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = shop, pg_temp
AS $$
DECLARE
    v_letter dead_letters;
BEGIN
    SELECT * INTO v_letter FROM dead_letters
    WHERE id = p_letter_id AND settled_at IS NULL AND source = 'events' FOR UPDATE;
    IF NOT FOUND OR NOT EXISTS (
        SELECT FROM event_consumers AS c WHERE c.consumer = v_letter.payload ->> 'consumer' AND NOT c.outside) THEN
        RETURN false;
    END IF;
    EXECUTE format('SELECT shop.%I($1)', 'consume_' || (v_letter.payload ->> 'consumer'))
        USING ARRAY[jsonb_populate_record(NULL::events, v_letter.payload -> 'event')];
    RETURN api.settle_letter(p_letter_id, 'replayed');
END
$$;

COMMENT ON FUNCTION api.replay_event(uuid) IS
'Gives a buried event to its consumer again and closes its letter, in one transaction; false when there is no such letter to replay.';
