CREATE OR REPLACE FUNCTION shop.month_part(p_table text, p_month date) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = shop, pg_temp
AS $$
    SELECT p_table || to_char(p_month, '_YYYY_MM')
$$;

COMMENT ON FUNCTION shop.month_part(text, date) IS 'The name of the partition of a table that has a month.';
