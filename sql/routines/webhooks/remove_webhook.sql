CREATE OR REPLACE FUNCTION api.remove_webhook(p_name text) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = shop, pg_temp
AS $$
DECLARE
    v_id integer := endpoint_named(p_name);
    v_waiting bigint;
BEGIN
    SELECT count(*) INTO v_waiting FROM webhook_deliveries AS d WHERE d.endpoint_id = v_id AND d.ended_at IS NULL;
    DELETE FROM webhook_endpoints WHERE id = v_id;
    RETURN v_waiting;
END
$$;

COMMENT ON FUNCTION api.remove_webhook(text) IS
'Removes an endpoint with its deliveries, and gives how many of them were waiting. Its dead letters stay, but can only be discarded.';
