CREATE OR REPLACE FUNCTION api.read_products(p_codes text[]) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = shop, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
BEGIN
    RETURN (
        SELECT coalesce(jsonb_agg(CASE WHEN p.id IS NOT NULL THEN jsonb_build_object(
            'code', p.code, 'title', p.title, 'brand', p.brand, 'category', g.code,
            'variants', (
                SELECT coalesce(jsonb_agg(jsonb_build_object(
                    'sku', v.sku, 'title', v.title, 'price_amount', v.price_amount, 'currency', v.currency,
                    'active', v.active) ORDER BY v.id), '[]')
                FROM (SELECT * FROM product_variants AS a WHERE a.product_id = p.id ORDER BY a.id LIMIT 500) AS v)
        ) END ORDER BY u.n), '[]')
        FROM unnest(p_codes) WITH ORDINALITY AS u (code, n)
        LEFT JOIN products AS p ON p.code = u.code
        LEFT JOIN categories AS g ON g.id = p.category_id);
END
$$;

COMMENT ON FUNCTION api.read_products(text[]) IS
'Products by code, as a list in the order asked, null where there is none: title, brand, category and at most 500 variants with their prices in minor units.';
