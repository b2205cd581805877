CREATE OR REPLACE FUNCTION shop.report_slow() RETURNS TABLE (object text, severity text, detail jsonb)
LANGUAGE plpgsql STABLE
SET search_path = shop, pg_temp
AS $$
DECLARE
    v_schema text := (
        SELECT e.extnamespace::regnamespace::text FROM pg_extension AS e WHERE e.extname = 'pg_stat_statements');
BEGIN
    IF v_schema IS NULL THEN
        RETURN QUERY SELECT 'pg_stat_statements is absent', 'note', jsonb_build_object('to_do',
            'load it (shared_preload_libraries) and, as a superuser, CREATE EXTENSION pg_stat_statements');
        RETURN;
    END IF;
    BEGIN
        RETURN QUERY EXECUTE format($f$
            SELECT 'query ' || q.queryid, CASE WHEN q.mean >= 1000 THEN 'warning' ELSE 'note' END, jsonb_build_object(
                'query', left(regexp_replace(q.query, '\s+', ' ', 'g'), 300), 'calls', q.calls,
                'mean_ms', round(q.mean::numeric, 1), 'max_ms', round(q.most::numeric, 1),
                'total_s', round(q.total::numeric / 1000, 1), 'rows', q.rows)
            FROM (
                SELECT s.queryid, min(s.query) AS query, sum(s.calls) AS calls, sum(s.rows) AS rows,
                    sum(s.total_exec_time) AS total, max(s.max_exec_time) AS most,
                    sum(s.total_exec_time) / sum(s.calls) AS mean
                FROM %s.pg_stat_statements AS s
                WHERE s.dbid = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
                    AND s.calls > 0 AND s.queryid IS NOT NULL
                GROUP BY s.queryid
            ) AS q
            WHERE q.mean >= 100 ORDER BY q.total DESC LIMIT 20$f$, v_schema);
    EXCEPTION WHEN object_not_in_prerequisite_state OR insufficient_privilege THEN
        RETURN QUERY SELECT 'pg_stat_statements cannot be read', 'note', jsonb_build_object('because', sqlerrm);
    END;
END
$$;

COMMENT ON FUNCTION shop.report_slow() IS
'The 20 statements of 100 ms and more on average that took the most time in all, by pg_stat_statements; where that is absent it says so.';
