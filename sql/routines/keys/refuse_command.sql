CREATE OR REPLACE FUNCTION api.refuse_command(
    p_key text, p_kind text, p_request text, p_code text, p_field text, p_message text
) RETURNS jsonb
LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = shop, pg_temp
AS $$
    SELECT coalesce(
        take_key(p_key, p_kind, coalesce(parse_request(p_request), 'null')),
        reject_key(p_key, p_code, p_field, p_message))
$$;

COMMENT ON FUNCTION api.refuse_command(text, text, text, text, text, text) IS
'For the Celery door, when a command does not have its form: stores under its key why, and gives the outcome.';
