CREATE OR REPLACE FUNCTION api.ordered_skus(p_order_ids uuid[]) RETURNS text[]
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = shop, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
BEGIN
    RETURN ARRAY(
        SELECT v.sku FROM product_variants AS v WHERE v.id IN (
            SELECT a.variant_id FROM unnest(p_order_ids) AS o (id)
            JOIN order_allocations AS a ON a.order_id = o.id AND a.id BETWEEN o.id AND shop.part_id(o.id, 65535)));
END
$$;

COMMENT ON FUNCTION api.ordered_skus(uuid[]) IS 'The skus whose stock these orders took, each once.';
