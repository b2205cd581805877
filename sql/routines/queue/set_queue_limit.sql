CREATE OR REPLACE FUNCTION api.set_queue_limit(p_pool text, p_max_wait interval) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = shop, pg_temp
AS $$
BEGIN
    IF p_max_wait NOT BETWEEN interval '100 milliseconds' AND interval '1 day' THEN
        RAISE EXCEPTION 'max_wait: give from 0.1 to 86400 seconds, not %', extract(epoch FROM p_max_wait)::float8
            USING ERRCODE = 'OM011';
    ELSIF NOT EXISTS (SELECT FROM pools WHERE code = p_pool) THEN
        RAISE EXCEPTION 'pool: there is no pool %; api.pools has them all', coalesce(p_pool, 'without a code')
            USING ERRCODE = 'OM004';
    END IF;
    UPDATE pools SET max_wait = p_max_wait WHERE code = p_pool AND max_wait IS DISTINCT FROM p_max_wait;
    RETURN FOUND;
END
$$;

COMMENT ON FUNCTION api.set_queue_limit(text, interval) IS
'Sets how long an order may wait behind the SQL door before further ones for its pool are refused (OM025), some from half of that on; NULL: as long as it takes. True when that is a change.';
