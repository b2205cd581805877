CREATE OR REPLACE FUNCTION api.replay_delivery(p_letter_id uuid) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = shop, pg_temp
AS $$
DECLARE
    v_letter dead_letters;
    v_event events;
    v_endpoint_id integer;
BEGIN
    SELECT * INTO v_letter FROM dead_letters
    WHERE id = p_letter_id AND settled_at IS NULL AND source = 'webhooks' FOR UPDATE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    SELECT w.id INTO v_endpoint_id FROM webhook_endpoints AS w
    WHERE w.id = (v_letter.payload ->> 'endpoint_id')::integer FOR KEY SHARE;
    SELECT * INTO v_event FROM events WHERE id = (v_letter.payload ->> 'event_id')::uuid;
    IF v_endpoint_id IS NULL OR v_event.id IS NULL THEN
        RETURN false;
    END IF;
    PERFORM api.settle_letter(p_letter_id, 'replayed');
    PERFORM deliver_again(v_endpoint_id, ARRAY[v_event]);
    RETURN true;
END
$$;

COMMENT ON FUNCTION api.replay_delivery(uuid) IS
'Has a dead delivery sent again and closes its letter, in one transaction; false when there is no such letter to replay, or its endpoint or event is gone.';
