CREATE OR REPLACE FUNCTION api.sold_out(p_pools text[], p_skus text[]) RETURNS TABLE (pool text, sku text)
LANGUAGE plpgsql STABLE SECURITY DEFINER ROWS 100
SET search_path = shop, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
BEGIN
    RETURN QUERY
    SELECT w.pool, w.sku
    FROM unnest(p_pools, p_skus) AS w (pool, sku)
    JOIN pools AS p ON p.code = w.pool
    JOIN product_variants AS v ON v.sku = w.sku AND v.active
    WHERE NOT EXISTS (
        SELECT FROM locations AS o
        JOIN stock_levels AS l ON l.variant_id = v.id AND l.location_id = o.id
        WHERE o.pool_id = p.id AND l.available + l.oversell_cap > 0);
END
$$;

COMMENT ON FUNCTION api.sold_out(text[], text[]) IS
'Which of these pairs of a pool and a sku for sale have no unit left now, permitted backorders included. Two lists of one length; nothing is locked.';
