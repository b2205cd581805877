CREATE OR REPLACE FUNCTION api.claim_job(p_job text, p_cadence interval, p_lease interval)
RETURNS TABLE (slot timestamptz, attempt integer)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = shop, pg_temp
AS $$
DECLARE
    v_seconds numeric := extract(epoch FROM p_cadence);
    v_slot timestamptz;
BEGIN
    IF coalesce(v_seconds, 0) <= 0 OR coalesce(extract(epoch FROM p_lease), 0) <= 0 THEN
        RAISE EXCEPTION 'the cadence and the lease of job % must be above zero', p_job USING ERRCODE = 'OM011';
    END IF;
    -- The nearest slot, not the last: a beat that fires a moment early still means the slot ahead.
    v_slot := to_timestamp(round(extract(epoch FROM clock_timestamp()) / v_seconds) * v_seconds);
    RETURN QUERY
    INSERT INTO job_runs AS r (job, slot, leased_until) VALUES (p_job, v_slot, clock_timestamp() + p_lease)
    ON CONFLICT ON CONSTRAINT job_runs_pkey DO UPDATE SET
        state = 'running', attempt = r.attempt + 1, leased_until = excluded.leased_until,
        started_at = clock_timestamp(), finished_at = NULL, result = NULL
    -- The first time at once, then after 10, 30, 70 ... seconds: a run may be long, and fail all day.
    WHERE (r.state = 'failed' AND clock_timestamp() >= r.finished_at + least(
            make_interval(secs => 5 * (2 ^ least(r.attempt, 20) - 2)), interval '1 hour', p_cadence / 4))
        OR (r.state = 'running' AND r.leased_until < clock_timestamp())
    RETURNING r.slot, r.attempt;
END
$$;

COMMENT ON FUNCTION api.claim_job(text, interval, interval) IS
'The slot of a job to run now, with a lease; no row when it is done or being done. A run whose lease ran out may be claimed again, and a failed one after a wait that doubles with its attempts: one successful run a slot.';
