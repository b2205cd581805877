CREATE OR REPLACE FUNCTION shop.parts_of_month(p_month date)
RETURNS TABLE (table_name text, part text, state text, archived boolean)
LANGUAGE sql STABLE
SET search_path = shop, pg_temp
AS $$
    SELECT t.name, month_part(t.name, p_month),
        CASE WHEN i.inhdetachpending THEN 'detaching' WHEN i.inhrelid IS NOT NULL THEN 'attached' ELSE 'detached' END,
        a.table_name IS NOT NULL AND a.dropped_at IS NULL
    FROM unnest(partitioned_tables()) WITH ORDINALITY AS t (name, place)
    JOIN pg_class AS c ON c.relname = month_part(t.name, p_month) AND c.relnamespace = 'shop'::regnamespace
    LEFT JOIN pg_inherits AS i ON i.inhrelid = c.oid
    LEFT JOIN archives AS a ON a.table_name = t.name AND a.month = p_month
    ORDER BY t.place DESC
$$;

COMMENT ON FUNCTION shop.parts_of_month(date) IS
'The partitions of a month that are still there, children before those that they refer to, and how far their retiring is.';
