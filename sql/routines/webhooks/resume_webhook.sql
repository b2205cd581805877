CREATE OR REPLACE FUNCTION api.resume_webhook(p_name text) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = shop, pg_temp
AS $$
DECLARE
    v_id integer := endpoint_named(p_name);
    v_stopped boolean := (SELECT w.disabled_at IS NOT NULL FROM webhook_endpoints AS w WHERE w.id = v_id);
BEGIN
    UPDATE webhook_endpoints
    SET disabled_at = NULL, disabled_reason = NULL, failures = 0, failing_since = NULL, rests_until = NULL
    WHERE id = v_id;
    RETURN v_stopped;
END
$$;

COMMENT ON FUNCTION api.resume_webhook(text) IS
'Sends to an endpoint again, starting with what waits, and ends its rest if it has one; false when it was not stopped.';
