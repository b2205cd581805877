CREATE OR REPLACE VIEW api.job_runs AS
SELECT DISTINCT ON (job)
    job, slot, state, attempt, started_at, finished_at, result
FROM shop.job_runs
ORDER BY job ASC, slot DESC;

COMMENT ON VIEW api.job_runs IS 'The last run of each job.';
