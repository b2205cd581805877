CREATE OR REPLACE FUNCTION api.bury_message(p_task text, p_task_id text, p_payload text, p_reason text) RETURNS uuid
LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = shop, pg_temp
AS $$
    INSERT INTO dead_letters (id, source, key, payload, code, reason, attempts)
    VALUES (shop.uuid7(), 'celery', p_task_id,
        jsonb_build_object('task', p_task, 'message', parse_request(p_payload)), 'OM091', p_reason, 1)
    RETURNING id
$$;

COMMENT ON FUNCTION api.bury_message(text, text, text, text) IS
'Keeps a message whose task failed for a reason nobody foresaw. Its key stays undecided: once mended, it can be sent again.';
