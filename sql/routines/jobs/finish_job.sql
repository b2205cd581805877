CREATE OR REPLACE FUNCTION api.finish_job(
    p_job text, p_slot timestamptz, p_attempt integer, p_state text, p_result jsonb
) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = shop, pg_temp
AS $$
BEGIN
    -- Of two attempts at a slot, only the one that holds it now may say how it ended.
    UPDATE job_runs SET state = p_state, leased_until = NULL, finished_at = clock_timestamp(), result = p_result
    WHERE job = p_job AND slot = p_slot AND attempt = p_attempt AND state = 'running';
    RETURN FOUND;
END
$$;

COMMENT ON FUNCTION api.finish_job(text, timestamptz, integer, text, jsonb) IS 'Ends a claimed run as succeeded or failed; false when the lease ran out and another attempt has the slot.';
