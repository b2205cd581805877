CREATE OR REPLACE FUNCTION api.submit_order(p_request text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = shop, pg_temp
AS $$
BEGIN
    RETURN submit_one(parse_request(p_request));
END
$$;

COMMENT ON FUNCTION api.submit_order(text) IS
'Takes one order into the queue within your own transaction: accepted when that commits; rejected; refused, where its pool is too busy; or what its key came to before.';

CREATE OR REPLACE FUNCTION api.submit_order(p_request jsonb) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = shop, pg_temp
AS $$
BEGIN
    RETURN submit_one(p_request);
END
$$;

COMMENT ON FUNCTION api.submit_order(jsonb) IS 'The same for a jsonb value.';
