CREATE OR REPLACE FUNCTION api.pause_webhook(p_name text, p_reason text DEFAULT 'paused by a person') RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = shop, pg_temp
AS $$
DECLARE
    v_id integer := endpoint_named(p_name);
BEGIN
    UPDATE webhook_endpoints
    SET disabled_at = clock_timestamp(), disabled_reason = coalesce(p_reason, 'paused by a person')
    WHERE id = v_id AND disabled_at IS NULL;
    RETURN FOUND;
END
$$;

COMMENT ON FUNCTION api.pause_webhook(text, text) IS
'Stops sending to an endpoint; what happens meanwhile waits. False when it is stopped already. What is on its way still arrives.';
