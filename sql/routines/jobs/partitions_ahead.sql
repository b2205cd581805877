CREATE OR REPLACE FUNCTION api.partitions_ahead() RETURNS integer
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = shop, pg_temp
AS $$
    SELECT min(ahead)::integer FROM (
        SELECT count(c.oid) AS ahead
        FROM unnest(partitioned_tables()) AS t (name)
        LEFT JOIN pg_inherits AS i ON i.inhparent = to_regclass('shop.' || t.name)
        LEFT JOIN pg_class AS c ON c.oid = i.inhrelid
            AND right(c.relname, 7) > to_char(now() AT TIME ZONE 'UTC', 'YYYY_MM')
        GROUP BY t.name
    ) AS tables
$$;

COMMENT ON FUNCTION api.partitions_ahead() IS 'For how many months ahead every partitioned table is ready; below 3, see why maintenance.ensure_partitions does not run.';
