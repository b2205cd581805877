CREATE OR REPLACE FUNCTION shop.key_conflict(p_key text) RETURNS jsonb
LANGUAGE sql STABLE PARALLEL SAFE
AS $$
    SELECT shop.outcome(p_key, 'rejected', NULL, 'OM010', 'key',
        'This key was used before with another body. Send a changed request under a new key.')
$$;

COMMENT ON FUNCTION shop.key_conflict(text) IS 'The outcome of a key that comes back with another body. It is not stored: the first body keeps the key.';
