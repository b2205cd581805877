CREATE OR REPLACE FUNCTION api.bury_unread(
    p_id uuid, p_at timestamptz, p_queue text, p_item text, p_base64 boolean, p_code text, p_reason text
) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = shop, pg_temp
AS $$
DECLARE
    v_headers jsonb;
    v_payload jsonb := jsonb_build_object(
        'queue', p_queue, CASE WHEN p_base64 THEN 'base64' ELSE 'item' END, p_item);
BEGIN
    IF p_queue IS NULL OR p_item IS NULL THEN
        RAISE EXCEPTION 'what was set aside has its queue and its item' USING ERRCODE = 'OM011';
    END IF;
    -- Many that cannot be used can be read: they are found by their task and its id.
    IF NOT p_base64 THEN
        v_headers := parse_request(p_item) -> 'headers';
    END IF;
    INSERT INTO dead_letters (id, source, key, payload, code, reason, attempts, created_at, task, queue)
    VALUES (
        p_id, 'celery', CASE WHEN bad_text(v_headers -> 'id') IS NULL THEN v_headers ->> 'id' END,
        v_payload, p_code, p_reason, 0, p_at, left(v_headers ->> 'task', 200), p_queue)
    ON CONFLICT (id) DO NOTHING;
    IF FOUND THEN
        RETURN true;
    ELSIF EXISTS (SELECT FROM dead_letters WHERE id = p_id AND payload = v_payload) THEN
        RETURN false;
    END IF;
    RAISE EXCEPTION 'letter % is of another item', p_id USING ERRCODE = 'OM011';
END
$$;

COMMENT ON FUNCTION api.bury_unread(uuid, timestamptz, text, text, boolean, text, text) IS
'Makes a dead letter of an item that a worker set aside; once by its id, however often it is called: false when it is there already.';
