CREATE OR REPLACE FUNCTION shop.endpoint_named(p_name text) RETURNS integer
LANGUAGE plpgsql VOLATILE
SET search_path = shop, pg_temp
AS $$
DECLARE
    v_id integer;
BEGIN
    SELECT w.id INTO v_id FROM webhook_endpoints AS w WHERE w.name = p_name FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no webhook endpoint %', coalesce(p_name, 'without a name') USING ERRCODE = 'OM040',
            HINT = 'SELECT name FROM api.webhook_endpoints lists them.';
    END IF;
    RETURN v_id;
END
$$;

COMMENT ON FUNCTION shop.endpoint_named(text) IS 'The id of an endpoint, which is locked; raises OM040 when there is none.';
