CREATE OR REPLACE FUNCTION api.order_outcome(p_key text) RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = shop, pg_temp
AS $$
    SELECT coalesce(answer, outcome(key, 'accepted', NULL, NULL, NULL, NULL)) FROM request_keys WHERE key = p_key
$$;

COMMENT ON FUNCTION api.order_outcome(text) IS
'What became of a request: its stored outcome, "accepted" while it waits, NULL when the key is unknown (then send it again under the same key).';
