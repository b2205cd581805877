CREATE OR REPLACE FUNCTION shop.report_statistics() RETURNS TABLE (object text, severity text, detail jsonb)
LANGUAGE sql STABLE
SET search_path = shop, pg_temp
AS $$
    WITH tables AS (
        SELECT s.*, c.reltuples, c.relkind, pg_table_size(c.oid) AS bytes, coalesce((
            SELECT substring(o FROM 'fillfactor=(\d+)')::numeric FROM unnest(c.reloptions) AS o WHERE o LIKE 'fillfactor=%'
        ), 100) / 100 AS filled, (
            SELECT 28 + coalesce(sum(p.avg_width * (1 - p.null_frac)), 0) FROM pg_stats AS p
            WHERE p.schemaname = s.schemaname AND p.tablename = s.relname AND NOT p.inherited) AS row_bytes
        FROM pg_stat_user_tables AS s JOIN pg_class AS c ON c.oid = s.relid WHERE s.schemaname = 'shop'
    ), indexes AS (
        SELECT c.relname, c.reltuples, pg_relation_size(c.oid) AS bytes, (
            SELECT 16 + coalesce(sum(p.avg_width), 16) FROM pg_attribute AS a
            LEFT JOIN pg_stats AS p ON p.schemaname = 'shop' AND p.tablename = i.indrelid::regclass::name
                AND p.attname = a.attname AND NOT p.inherited
            WHERE a.attrelid = c.oid) AS entry_bytes
        FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid AND c.relnamespace = 'shop'::regnamespace
        WHERE c.relkind = 'i'
    ), growth AS (
        SELECT n.table_name, n.bytes, w.bytes AS before, w.day
        FROM table_sizes AS n JOIN table_sizes AS w ON w.table_name = n.table_name AND w.day = n.day - 7
        WHERE n.day = (now() AT TIME ZONE 'UTC')::date
    )
    SELECT 'rows never analyzed or long ago: ' || t.relname, 'warning', jsonb_build_object(
        'changed_since', t.n_mod_since_analyze, 'rows', t.n_live_tup,
        'analyzed_at', greatest(t.last_analyze, t.last_autoanalyze))
    FROM tables AS t WHERE t.n_mod_since_analyze > greatest(10000, t.n_live_tup / 2)
    UNION ALL
    SELECT 'dead rows: ' || t.relname, 'warning', jsonb_build_object(
        'dead', t.n_dead_tup, 'rows', t.n_live_tup, 'vacuumed_at', greatest(t.last_vacuum, t.last_autovacuum))
    FROM tables AS t WHERE t.n_dead_tup > greatest(10000, t.n_live_tup / 2)
    UNION ALL
    SELECT 'table larger than its rows: ' || t.relname, 'note', jsonb_build_object(
        'bytes', t.bytes, 'estimated_bytes', round(t.reltuples::numeric * t.row_bytes / t.filled))
    FROM tables AS t
    WHERE t.relkind = 'r' AND t.bytes > 100000000 AND t.reltuples >= 0
        AND t.bytes > 3 * t.reltuples::numeric * t.row_bytes / t.filled
    UNION ALL
    SELECT 'index larger than its entries: ' || i.relname, 'note', jsonb_build_object(
        'bytes', i.bytes, 'estimated_bytes', round(i.reltuples::numeric * i.entry_bytes / 0.9))
    FROM indexes AS i
    WHERE i.bytes > 100000000 AND i.reltuples >= 0 AND i.bytes > 3 * i.reltuples::numeric * i.entry_bytes / 0.9
    UNION ALL
    SELECT 'updates that are not HOT: stock_levels', 'warning', jsonb_build_object(
        'updates', t.n_tup_upd, 'hot', round(t.n_tup_hot_upd::numeric / t.n_tup_upd, 3), 'expected', 0.95)
    FROM tables AS t
    WHERE t.relname = 'stock_levels' AND t.n_tup_upd >= 10000 AND t.n_tup_hot_upd < 0.95 * t.n_tup_upd
    UNION ALL
    SELECT 'sequence half used: ' || q.sequencename, 'warning', jsonb_build_object(
        'last', q.last_value, 'most', q.max_value)
    FROM pg_sequences AS q WHERE q.schemaname = 'shop' AND q.last_value > q.max_value / 2
    UNION ALL
    SELECT 'transaction ids run out', 'warning', jsonb_build_object(
        'xid_age', age(d.datfrozenxid), 'multixact_age', mxid_age(d.datminmxid), 'most', 2000000000)
    FROM pg_database AS d
    WHERE d.datname = current_database() AND greatest(age(d.datfrozenxid), mxid_age(d.datminmxid)) > 1000000000
    UNION ALL
    SELECT 'table doubled in a week: ' || g.table_name, 'note', jsonb_build_object(
        'bytes', g.bytes, 'before', g.before, 'since', g.day)
    FROM growth AS g WHERE g.bytes > 1000000000 AND g.bytes > 2 * g.before
    UNION ALL
    SELECT 'more than 24 months attached', 'warning', jsonb_build_object(
        'attached', count(*), 'oldest', min(m.month))
    FROM attached_months() AS m HAVING count(*) > 24
    UNION ALL
    SELECT 'index that is not valid: ' || i.indexrelid::regclass::text, 'warning', jsonb_build_object(
        'definition', pg_get_indexdef(i.indexrelid))
    FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
    WHERE NOT i.indisvalid AND c.relnamespace = 'shop'::regnamespace
$$;

COMMENT ON FUNCTION shop.report_statistics() IS
'What planning and space suffer from: old statistics, dead rows, bloat (estimated), updates that are not HOT, growth, numbers that run out.';
