CREATE OR REPLACE FUNCTION api.best_sellers(p_since interval DEFAULT '7 days', p_limit integer DEFAULT 500)
RETURNS TABLE (sku text, product text, category text, quantity bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = shop, pg_temp
SET plan_cache_mode = force_custom_plan SET enable_seqscan = off
AS $$
BEGIN
    RETURN QUERY
    WITH sold AS (
        SELECT l.variant_id, l.quantity FROM order_lines AS l
        WHERE l.id >= shop.uuid7_floor(clock_timestamp() - p_since) ORDER BY l.id DESC LIMIT 100000
    ), best AS (
        SELECT s.variant_id, sum(s.quantity)::bigint AS quantity FROM sold AS s
        GROUP BY s.variant_id ORDER BY 2 DESC, s.variant_id LIMIT p_limit
    )
    SELECT v.sku, p.code, g.code, b.quantity
    FROM best AS b
    JOIN product_variants AS v ON v.id = b.variant_id
    JOIN products AS p ON p.id = v.product_id
    JOIN categories AS g ON g.id = p.category_id
    ORDER BY b.quantity DESC, v.sku;
END
$$;

COMMENT ON FUNCTION api.best_sellers(interval, integer) IS
'What sold most lately, most first, with its product and category: of the last 100,000 order lines of that time, so it costs the same however much is sold.';
