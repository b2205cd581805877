CREATE OR REPLACE FUNCTION api.bury_message(
    p_task text, p_task_id text, p_payload text, p_reason text, p_attempts integer DEFAULT 1
) RETURNS uuid
LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = shop, pg_temp
AS $$
    INSERT INTO dead_letters (id, source, key, payload, code, reason, attempts, task)
    VALUES (shop.uuid7(), 'celery', p_task_id,
        jsonb_build_object('task', p_task, 'message', parse_request(p_payload)), 'OM091', p_reason, p_attempts, p_task)
    RETURNING id
$$;

COMMENT ON FUNCTION api.bury_message(text, text, text, text, integer) IS
'Keeps a message whose task failed for a reason nobody foresaw, or whose attempts all killed their workers. Its key stays undecided: once mended, it can be sent again.';
