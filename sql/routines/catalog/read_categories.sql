CREATE OR REPLACE FUNCTION api.read_categories(p_codes text[]) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = shop, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
BEGIN
    RETURN (
        SELECT coalesce(jsonb_agg(CASE WHEN g.id IS NOT NULL THEN jsonb_build_object(
            'code', g.code, 'name', g.name,
            'parent', CASE WHEN a.id IS NOT NULL THEN jsonb_build_object('code', a.code, 'name', a.name) END,
            'children', (
                SELECT coalesce(jsonb_agg(jsonb_build_object('code', b.code, 'name', b.name) ORDER BY b.code), '[]')
                FROM (SELECT * FROM categories AS c WHERE c.parent_id = g.id ORDER BY c.code LIMIT 1000) AS b),
            'products', (
                SELECT coalesce(jsonb_agg(p.code ORDER BY p.code), '[]')
                FROM (SELECT * FROM products AS c WHERE c.category_id = g.id ORDER BY c.code LIMIT 1000) AS p),
            'product_count', (SELECT count(*) FROM products AS p WHERE p.category_id = g.id)
        ) END ORDER BY u.n), '[]')
        FROM unnest(p_codes) WITH ORDINALITY AS u (code, n)
        LEFT JOIN categories AS g ON g.code = u.code
        LEFT JOIN categories AS a ON a.id = g.parent_id);
END
$$;

COMMENT ON FUNCTION api.read_categories(text[]) IS
'Categories by code, as a list in the order asked, null where there is none: name, parent, children, how many products and the codes of the first 1,000, by code.';
