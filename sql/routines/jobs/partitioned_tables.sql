CREATE OR REPLACE FUNCTION shop.partitioned_tables() RETURNS text[]
LANGUAGE sql IMMUTABLE
SET search_path = shop, pg_temp
AS $$
    SELECT '{orders,order_lines,order_allocations,order_status_history,stock_movements,events}'::text[]
$$;

COMMENT ON FUNCTION shop.partitioned_tables() IS 'The tables in monthly partitions, parents before those that refer to them.';
