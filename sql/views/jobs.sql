CREATE OR REPLACE VIEW api.jobs AS
WITH last AS (
    SELECT DISTINCT ON (job) * FROM shop.job_runs
    -- Not the runs of a clock that ran ahead.
    WHERE started_at <= clock_timestamp()
    ORDER BY job ASC, slot DESC
)

SELECT
    r.job, r.slot, r.state, r.attempt, r.started_at, r.finished_at, r.result, s.slot AS succeeded_slot,
    s.finished_at AS succeeded_at, s.finished_at - s.started_at AS took,
    (
        SELECT count(*) FROM shop.job_runs AS f
        WHERE f.job = r.job AND f.state = 'failed' AND f.slot > now() - interval '1 day'
    ) AS failed_last_day
FROM last AS r
LEFT JOIN LATERAL (
    SELECT d.slot, d.started_at, d.finished_at FROM shop.job_runs AS d
    WHERE d.job = r.job AND d.state = 'succeeded' AND d.started_at <= clock_timestamp()
    ORDER BY d.slot DESC LIMIT 1
) AS s ON true;

COMMENT ON VIEW api.jobs IS 'Each job that has ever run: its last run, its last success and how many slots of a day failed.';
