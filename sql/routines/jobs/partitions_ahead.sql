CREATE OR REPLACE FUNCTION api.partitions_ahead() RETURNS integer
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = shop, pg_temp
AS $$
    -- Up to the first gap: what lies behind one does not help the month that is missing.
    SELECT greatest(coalesce(min(m), 25) - 1, 0)
    FROM generate_series(0, 24) AS m
    CROSS JOIN unnest(partitioned_tables()) AS t (name)
    WHERE NOT EXISTS (
        SELECT FROM pg_inherits AS i
        WHERE i.inhparent = to_regclass('shop.' || t.name) AND i.inhrelid = to_regclass('shop.' || t.name || to_char(
            date_trunc('month', now() AT TIME ZONE 'UTC') + make_interval(months => m), '_YYYY_MM')))
$$;

COMMENT ON FUNCTION api.partitions_ahead() IS
'For how many months ahead, without a gap, every partitioned table is ready; below 3, see why maintenance.ensure_partitions does not run.';
