CREATE OR REPLACE FUNCTION shop.outcome(
    p_key text, p_status text, p_order_id uuid, p_code text, p_field text, p_message text
) RETURNS jsonb
LANGUAGE sql STABLE PARALLEL SAFE
AS $$
    SELECT jsonb_build_object(
        'key', p_key, 'status', p_status, 'order_id', p_order_id,
        'code', p_code, 'field', p_field, 'message', p_message)
$$;

COMMENT ON FUNCTION shop.outcome(text, text, uuid, text, text, text) IS 'What a request came to, in the one form that every door gives.';
