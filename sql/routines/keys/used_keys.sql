CREATE OR REPLACE FUNCTION api.used_keys(p_keys text[]) RETURNS SETOF text
LANGUAGE plpgsql STABLE SECURITY DEFINER ROWS 100
SET search_path = shop, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
BEGIN
    RETURN QUERY SELECT k.key FROM request_keys AS k WHERE k.key = ANY (p_keys);
END
$$;

COMMENT ON FUNCTION api.used_keys(text[]) IS
'Which of these keys have been taken, by whatever command and whether decided or not; a key that is being taken just now is not seen.';
