CREATE OR REPLACE FUNCTION api.job_health(
    p_jobs text[], p_cadences double precision[], p_now timestamptz DEFAULT clock_timestamp()
) RETURNS TABLE (
    job text, state text, attempt integer, slot timestamptz, started_at timestamptz, finished_at timestamptz,
    error text, succeeded_slot timestamptz, since_slot_seconds double precision, known_seconds double precision
)
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = shop, pg_temp
AS $$
    -- A slot is claimed from half a cadence ahead. A later one is of a clock that ran ahead: it says nothing of now.
    WITH jobs AS (
        SELECT j.name, j.place, p_now + make_interval(secs => j.cadence / 2) AS last_slot
        FROM unnest(p_jobs, p_cadences) WITH ORDINALITY AS j (name, cadence, place)
    )
    -- Each from its end of the primary key: a busy job has a million runs.
    SELECT
        j.name, r.state, r.attempt, r.slot, r.started_at, r.finished_at, r.result ->> 'error', s.slot,
        extract(epoch FROM p_now - s.slot)::double precision,
        extract(epoch FROM p_now - f.slot)::double precision
    FROM jobs AS j
    LEFT JOIN LATERAL (
        SELECT * FROM job_runs AS o WHERE o.job = j.name AND o.slot <= j.last_slot ORDER BY o.slot DESC LIMIT 1
    ) AS r ON true
    LEFT JOIN LATERAL (
        SELECT o.slot FROM job_runs AS o WHERE o.job = j.name AND o.slot <= j.last_slot AND o.state = 'succeeded'
        ORDER BY o.slot DESC LIMIT 1
    ) AS s ON true
    LEFT JOIN LATERAL (
        SELECT o.slot FROM job_runs AS o WHERE o.job = j.name AND o.slot <= j.last_slot ORDER BY o.slot LIMIT 1
    ) AS f ON true
    ORDER BY j.place
$$;

COMMENT ON FUNCTION api.job_health(text[], double precision[], timestamptz) IS
'Of each job named, with the seconds of its cadence: its last run, the slot of its last success and how long ago that was, and how long ago its first slot was; NULLs for one that never ran.';
