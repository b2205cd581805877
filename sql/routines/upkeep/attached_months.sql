CREATE OR REPLACE FUNCTION shop.attached_months() RETURNS TABLE (month date, parts integer)
LANGUAGE sql STABLE
SET search_path = shop, pg_temp
AS $$
    SELECT to_date(right(c.relname, 7), 'YYYY_MM'), count(*)::integer
    FROM unnest(partitioned_tables()) AS t (name)
    JOIN pg_inherits AS i ON i.inhparent = to_regclass('shop.' || t.name)
    JOIN pg_class AS c ON c.oid = i.inhrelid
    GROUP BY 1 ORDER BY 1
$$;

COMMENT ON FUNCTION shop.attached_months() IS 'The months that have partitions attached, and how many.';
