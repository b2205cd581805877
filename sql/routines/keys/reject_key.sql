CREATE OR REPLACE FUNCTION shop.reject_key(p_key text, p_code text, p_field text, p_message text) RETURNS jsonb
LANGUAGE sql VOLATILE
SET search_path = shop, pg_temp
AS $$
    SELECT decide_key(p_key, 'rejected', outcome(p_key, 'rejected', NULL, p_code, p_field, p_message))
$$;

COMMENT ON FUNCTION shop.reject_key(text, text, text, text) IS 'Decides a taken key: rejected, for this reason.';
