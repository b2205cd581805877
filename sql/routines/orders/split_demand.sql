CREATE OR REPLACE FUNCTION shop.split_demand(p_demand shop.order_demand[], p_locked shop.stock_levels[])
RETURNS shop.order_share[]
LANGUAGE plpgsql STABLE
SET search_path = shop, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
BEGIN
    RETURN (
        -- Two running sums laid over each other: demand in queue order, supply by what is there (phase 1, by priority) and
        -- then by what may be backordered (phase 2). Where the intervals meet, that location serves that line.
        WITH demand AS (
            SELECT ord, line_no, variant_id, pool_id, sum(quantity) OVER w - quantity AS low, sum(quantity) OVER w AS high
            FROM unnest(p_demand) WINDOW w AS (PARTITION BY variant_id, pool_id ORDER BY ord)
        ), stock AS (
            SELECT l.variant_id, p.pool_id, l.location_id, x.phase, x.quantity,
                sum(x.quantity) OVER (PARTITION BY l.variant_id, p.pool_id ORDER BY x.phase, p.priority) AS high
            FROM unnest(p_locked) AS l
            JOIN locations AS p ON p.id = l.location_id
            CROSS JOIN LATERAL (VALUES
                (1, greatest(l.available, 0)), (2, l.oversell_cap + least(l.available, 0))
            ) AS x (phase, quantity)
            WHERE x.quantity > 0
        ), shares AS (
            SELECT d.ord, d.line_no, d.variant_id, s.location_id, s.phase,
                least(d.high, s.high) - greatest(d.low, s.high - s.quantity) AS quantity
            FROM demand AS d
            JOIN stock AS s ON s.variant_id = d.variant_id AND s.pool_id = d.pool_id
                AND d.low < s.high AND s.high - s.quantity < d.high
        ), shared AS (
            SELECT ord, line_no, variant_id, location_id, sum(quantity) AS quantity,
                coalesce(sum(quantity) FILTER (WHERE phase = 2), 0) AS backordered
            FROM shares GROUP BY 1, 2, 3, 4
        )
        SELECT coalesce(array_agg(
            ROW(ord, line_no, variant_id, location_id, quantity, backordered)::order_share ORDER BY ord, line_no, location_id), '{}')
        FROM shared);
END
$$;

COMMENT ON FUNCTION shop.split_demand(shop.order_demand[], shop.stock_levels[]) IS
'Which location serves how much of each line of the orders that were chosen, over locked levels: nearest priority first, backorders last.';
