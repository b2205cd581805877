CREATE OR REPLACE FUNCTION api.read_availability(p_skus text[]) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = shop, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
BEGIN
    RETURN (
        SELECT coalesce(jsonb_agg(CASE WHEN v.id IS NOT NULL THEN jsonb_build_object(
            'sku', v.sku, 'pools', coalesce(s.pools, '[]')) END ORDER BY u.n), '[]')
        FROM unnest(p_skus) WITH ORDINALITY AS u (sku, n)
        LEFT JOIN product_variants AS v ON v.sku = u.sku
        LEFT JOIN products AS r ON r.id = v.product_id
        LEFT JOIN categories AS g ON g.id = r.category_id
        CROSS JOIN LATERAL (
            SELECT jsonb_agg(jsonb_build_object(
                'pool', a.code, 'available', a.available, 'can_order', a.can_order, 'low', a.low) ORDER BY a.code) AS pools
            FROM (
                SELECT p.code, sum(l.available)::bigint AS available, sum(l.available + l.oversell_cap)::bigint AS can_order,
                    bool_or(l.available <= coalesce(l.low_stock_threshold, g.low_stock_threshold)) AS low
                FROM stock_levels AS l
                JOIN locations AS o ON o.id = l.location_id
                JOIN pools AS p ON p.id = o.pool_id
                WHERE l.variant_id = v.id
                GROUP BY p.code
            ) AS a
        ) AS s);
END
$$;

COMMENT ON FUNCTION api.read_availability(text[]) IS
'What can be ordered of skus now, as a list in the order asked, null where there is no such sku: by pool what is available, what can be ordered with permitted backorders, and whether it is low somewhere.';
