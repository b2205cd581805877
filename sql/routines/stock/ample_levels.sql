CREATE OR REPLACE FUNCTION shop.ample_levels(p_demand shop.order_demand[], p_claim shop.claims DEFAULT NULL)
RETURNS shop.stock_levels[]
LANGUAGE plpgsql STABLE
SET search_path = shop, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
DECLARE
    v_pairs bigint;
    v_levels stock_levels[];
BEGIN
    -- Four times: batches of the same skus may be on their way at once. Chosen, not measured. What older orders ask for
    -- that a drain has in hand is left to them: they may be placed after this.
    WITH earlier AS (
        SELECT l.sku, sum(l.quantity) AS quantity
        FROM claims_before(p_claim) AS c
        JOIN order_queue AS q ON q.id = ANY (c.queue_ids)
        CROSS JOIN LATERAL unnest(q.skus, q.quantities) AS l (sku, quantity)
        GROUP BY l.sku
    )
    SELECT count(*),
        array_agg(nearest.l) FILTER (WHERE (nearest.l).available >= 4 * d.quantity + coalesce(e.quantity, 0))
    INTO v_pairs, v_levels
    FROM (SELECT variant_id, pool_id, sku, sum(quantity) AS quantity FROM unnest(p_demand) GROUP BY 1, 2, 3) AS d
    LEFT JOIN earlier AS e ON e.sku = d.sku
    LEFT JOIN LATERAL (
        SELECT l FROM locations AS p JOIN stock_levels AS l ON l.variant_id = d.variant_id AND l.location_id = p.id
        WHERE p.pool_id = d.pool_id AND l.available > 0
        ORDER BY p.priority LIMIT 1
    ) AS nearest ON true;
    RETURN CASE WHEN cardinality(v_levels) = v_pairs THEN v_levels END;
END
$$;

COMMENT ON FUNCTION shop.ample_levels(shop.order_demand[], shop.claims) IS
'For each variant asked for the nearest level that has any, as it is, not locked, where each has many times what is asked beside all that older claims ask for; else NULL. Then all can be served from these, which shop.take_stock makes sure of.';
