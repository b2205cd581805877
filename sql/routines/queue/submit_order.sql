CREATE OR REPLACE FUNCTION api.submit_order(p_request text) RETURNS jsonb
LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = shop, pg_temp
AS $$
    SELECT api.submit_orders(ARRAY[p_request])
$$;

COMMENT ON FUNCTION api.submit_order(text) IS
'Takes one order into the queue within your own transaction: accepted when that commits; or rejected; or what its key came to before.';

CREATE OR REPLACE FUNCTION api.submit_order(p_request jsonb) RETURNS jsonb
LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = shop, pg_temp
AS $$
    SELECT api.submit_orders(ARRAY[p_request::text])
$$;

COMMENT ON FUNCTION api.submit_order(jsonb) IS 'The same for a jsonb value.';
