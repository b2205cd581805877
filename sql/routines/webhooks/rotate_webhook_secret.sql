CREATE OR REPLACE FUNCTION api.rotate_webhook_secret(p_name text, p_overlap interval DEFAULT interval '24 hours')
RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = shop, pg_temp
AS $$
DECLARE
    v_id integer := endpoint_named(p_name);
    v_secret text := new_webhook_secret();
BEGIN
    IF coalesce(p_overlap NOT BETWEEN interval '0' AND interval '30 days', true) THEN
        RAISE EXCEPTION 'overlap: give up to 30 days' USING ERRCODE = 'OM042';
    END IF;
    UPDATE webhook_endpoints
    SET secret = v_secret, previous_secret = secret, previous_until = clock_timestamp() + p_overlap WHERE id = v_id;
    RETURN v_secret;
END
$$;

COMMENT ON FUNCTION api.rotate_webhook_secret(text, interval) IS
'Gives an endpoint a new secret and returns it: this once. Messages are signed with the former one too until the overlap ends; one from before that is void at once.';
