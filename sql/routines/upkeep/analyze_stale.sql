CREATE OR REPLACE FUNCTION api.analyze_stale(p_limit integer DEFAULT 1) RETURNS text[]
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = shop, pg_temp
AS $$
DECLARE
    v_tables text[];
    v_table text;
BEGIN
    INSERT INTO table_sizes AS s (table_name, day, bytes)
    SELECT c.relname, (now() AT TIME ZONE 'UTC')::date, CASE WHEN c.relkind = 'p' THEN (
        SELECT coalesce(sum(pg_total_relation_size(i.inhrelid)), 0) FROM pg_inherits AS i WHERE i.inhparent = c.oid)
        ELSE pg_total_relation_size(c.oid) END
    FROM pg_class AS c
    WHERE c.relnamespace = 'shop'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
    ON CONFLICT ON CONSTRAINT table_sizes_pkey DO UPDATE SET bytes = excluded.bytes WHERE s.bytes <> excluded.bytes;
    -- Autovacuum never analyzes a partitioned table itself; what it has not come to is done here too.
    SELECT array_agg(relname) INTO v_tables FROM (
        SELECT s.relname FROM pg_stat_user_tables AS s
        JOIN pg_class AS c ON c.oid = s.relid
        LEFT JOIN LATERAL (
            SELECT sum(p.n_live_tup) AS rows FROM pg_inherits AS i JOIN pg_stat_user_tables AS p ON p.relid = i.inhrelid WHERE i.inhparent = s.relid
        ) AS parts ON c.relkind = 'p'
        WHERE s.schemaname = 'shop' AND (
            (c.relkind = 'p' AND parts.rows >= 1000
                AND coalesce(s.last_analyze, '-infinity') < clock_timestamp() - interval '1 day')
            OR (c.relkind = 'r' AND s.n_mod_since_analyze > greatest(10000, s.n_live_tup / 2)))
        ORDER BY coalesce(greatest(s.last_analyze, s.last_autoanalyze), '-infinity'), s.relname LIMIT p_limit
    ) AS stale;
    FOREACH v_table IN ARRAY coalesce(v_tables, '{}') LOOP
        EXECUTE format('ANALYZE shop.%I', v_table);
    END LOOP;
    RETURN coalesce(v_tables, '{}');
END
$$;

COMMENT ON FUNCTION api.analyze_stale(integer) IS
'Notes the size of each table for the day and analyzes the tables whose statistics are old, the stalest first; gives their names.';
