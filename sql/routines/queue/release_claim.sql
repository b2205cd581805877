CREATE OR REPLACE FUNCTION api.release_claim(p_claim_id uuid) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = shop, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
BEGIN
    UPDATE claims SET leased_until = NULL WHERE id = p_claim_id;
    RETURN FOUND;
END
$$;

COMMENT ON FUNCTION api.release_claim(uuid) IS
'Gives back a claim without counting an attempt, where what stopped it was not its orders'' fault: a lock, an outage, a broken deployment; false when it is gone.';
