CREATE OR REPLACE FUNCTION api.sweep_claims(p_limit integer, p_max_attempts integer) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = shop, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
DECLARE
    v_claim uuid;
    v_swept integer := 0;
BEGIN
    FOR v_claim IN
        SELECT id FROM claims WHERE leased_until < clock_timestamp() ORDER BY id LIMIT p_limit FOR UPDATE SKIP LOCKED
    LOOP
        PERFORM api.return_claim(v_claim, p_max_attempts, 'OM090',
            'Each attempt to place this order ended without an answer; its drain died or was cut off.');
        v_swept := v_swept + 1;
    END LOOP;
    RETURN v_swept;
END
$$;

COMMENT ON FUNCTION api.sweep_claims(integer, integer) IS 'Takes back the claims whose lease ran out, at most this many, and gives how many.';
