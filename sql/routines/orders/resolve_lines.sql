CREATE OR REPLACE FUNCTION shop.resolve_lines(
    p_requests shop.order_request[], p_heads shop.order_head[]
) RETURNS shop.order_demand[]
LANGUAGE plpgsql STABLE
SET search_path = shop, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
BEGIN
    RETURN (
        -- One line a variant: duplicates are added to their first.
        WITH lines AS (
            SELECT h.ord, min(l.n) AS field_no, l.sku, sum(l.quantity) AS quantity, h.pool_id, h.currency
            FROM unnest(p_heads) AS h
            CROSS JOIN LATERAL unnest((p_requests[h.ord]).skus, (p_requests[h.ord]).quantities)
                WITH ORDINALITY AS l (sku, quantity, n)
            WHERE h.code IS NULL
            GROUP BY h.ord, h.pool_id, h.currency, l.sku
        )
        SELECT coalesce(array_agg(ROW(
            l.ord, l.line_no, l.field_no - 1, l.sku, v.id, l.pool_id, l.quantity,
            CASE WHEN v.active AND v.currency = l.currency AND l.quantity <= 1000000 THEN v.price_amount END)::order_demand
            ORDER BY l.ord, l.line_no), '{}')
        FROM (SELECT *, row_number() OVER (PARTITION BY ord ORDER BY field_no) AS line_no FROM lines) AS l
        LEFT JOIN product_variants AS v ON v.sku = l.sku);
END
$$;

COMMENT ON FUNCTION shop.resolve_lines(shop.order_request[], shop.order_head[]) IS 'What the orders ask for, a line a variant, at the catalog''s prices; without a price where the catalog cannot serve it, for which shop.check_catalog has the words.';
