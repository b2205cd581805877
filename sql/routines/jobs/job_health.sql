CREATE OR REPLACE FUNCTION api.job_health(p_jobs text[])
RETURNS TABLE (
    job text, state text, attempt integer, slot timestamptz, started_at timestamptz, finished_at timestamptz,
    error text, succeeded_slot timestamptz, since_slot_seconds double precision, known_seconds double precision
)
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = shop, pg_temp
AS $$
    -- Each from its end of the primary key: a busy job has a million runs.
    SELECT
        j.name, r.state, r.attempt, r.slot, r.started_at, r.finished_at, r.result ->> 'error', s.slot,
        extract(epoch FROM clock_timestamp() - s.slot)::double precision,
        extract(epoch FROM clock_timestamp() - f.slot)::double precision
    FROM unnest(p_jobs) WITH ORDINALITY AS j (name, place)
    LEFT JOIN LATERAL (
        SELECT * FROM job_runs AS o WHERE o.job = j.name ORDER BY o.slot DESC LIMIT 1
    ) AS r ON true
    LEFT JOIN LATERAL (
        SELECT o.slot FROM job_runs AS o WHERE o.job = j.name AND o.state = 'succeeded' ORDER BY o.slot DESC LIMIT 1
    ) AS s ON true
    LEFT JOIN LATERAL (
        SELECT o.slot FROM job_runs AS o WHERE o.job = j.name ORDER BY o.slot LIMIT 1
    ) AS f ON true
    ORDER BY j.place
$$;

COMMENT ON FUNCTION api.job_health(text[]) IS
'Of each job named: its last run, the slot of its last success and how long ago that was, and how long ago its first slot was; NULLs for one that never ran.';
