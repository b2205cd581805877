CREATE OR REPLACE FUNCTION shop.demand_of_good(
    p_heads shop.order_head[], p_demand shop.order_demand[]
) RETURNS shop.order_demand[]
LANGUAGE plpgsql IMMUTABLE
SET search_path = shop, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
BEGIN
    RETURN (
        SELECT coalesce(array_agg(d ORDER BY d.ord, d.line_no), '{}')
        FROM unnest(p_demand) AS d
        WHERE d.ord IN (SELECT h.ord FROM unnest(p_heads) AS h WHERE h.code IS NULL));
END
$$;

COMMENT ON FUNCTION shop.demand_of_good(shop.order_head[], shop.order_demand[]) IS 'What is asked for by the orders with which nothing is wrong so far.';
