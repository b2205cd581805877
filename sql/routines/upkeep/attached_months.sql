CREATE OR REPLACE FUNCTION shop.attached_months() RETURNS TABLE (month date, parts integer)
LANGUAGE sql STABLE
SET search_path = shop, pg_temp
AS $$
    SELECT to_date(right(c.relname, 7), 'YYYY_MM'), count(*)::integer
    FROM unnest(partitioned_tables()) AS t (name)
    JOIN pg_inherits AS i ON i.inhparent = to_regclass('shop.' || t.name)
    -- An operator may have attached others, such as a default partition.
    JOIN pg_class AS c ON c.oid = i.inhrelid AND c.relname ~ ('^' || t.name || '_[0-9]{4}_(0[1-9]|1[0-2])$')
    GROUP BY 1 ORDER BY 1
$$;

COMMENT ON FUNCTION shop.attached_months() IS 'The months that have partitions attached, and how many.';
