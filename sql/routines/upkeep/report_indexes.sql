CREATE OR REPLACE FUNCTION shop.report_indexes() RETURNS TABLE (object text, severity text, detail jsonb)
LANGUAGE sql STABLE
SET search_path = shop, pg_temp
AS $$
    -- The index of a partitioned table stands for those of its partitions.
    SELECT 'unused: ' || u.name, 'note', jsonb_build_object(
        'table', u.table_name, 'bytes', u.bytes, 'writes', u.writes, 'counted_since', (
            SELECT d.stats_reset FROM pg_stat_database AS d WHERE d.datname = current_database()))
    FROM (
        SELECT coalesce(h.inhparent, s.indexrelid)::regclass::text AS name, min(coalesce(th.inhparent, s.relid)::regclass::text) AS table_name,
            sum(s.idx_scan) AS scans, sum(pg_relation_size(s.indexrelid)) AS bytes,
            sum(t.n_tup_ins + t.n_tup_upd + t.n_tup_del) AS writes
        FROM pg_stat_user_indexes AS s
        JOIN pg_index AS i ON i.indexrelid = s.indexrelid AND NOT i.indisunique AND NOT i.indisexclusion
        JOIN pg_stat_user_tables AS t ON t.relid = s.relid
        LEFT JOIN pg_inherits AS h ON h.inhrelid = s.indexrelid
        LEFT JOIN pg_inherits AS th ON th.inhrelid = s.relid
        WHERE s.schemaname = 'shop'
        GROUP BY 1
    ) AS u
    -- An index costs by what is written; below that nothing can be said yet.
    WHERE u.scans = 0 AND u.writes >= 10000
$$;

COMMENT ON FUNCTION shop.report_indexes() IS
'Indexes that no query has used while 10,000 rows and more were written: they cost, and may be of no use. Never those that keep something unique.';
