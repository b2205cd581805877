CREATE OR REPLACE FUNCTION shop.split_line(p_lines shop.order_demand[], p_locked shop.stock_levels[])
RETURNS shop.order_share[]
LANGUAGE plpgsql STABLE
SET search_path = shop, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
BEGIN
    -- A variant is in one line only, so each line takes from the front of its own supply.
    RETURN (
        SELECT array_agg(ROW(1, line_no, variant_id, location_id, taken, backordered)::order_share)
        FROM (
            SELECT line_no, variant_id, location_id, sum(least(quantity, asked - before)) AS taken,
                coalesce(sum(least(quantity, asked - before)) FILTER (WHERE phase = 2), 0) AS backordered
            FROM (
                SELECT d.line_no, d.variant_id, d.quantity AS asked, l.location_id, x.phase, x.quantity,
                    sum(x.quantity) OVER (PARTITION BY d.line_no ORDER BY x.phase, p.priority) - x.quantity AS before
                FROM unnest(p_lines) AS d
                JOIN unnest(p_locked) AS l ON l.variant_id = d.variant_id
                JOIN locations AS p ON p.id = l.location_id
                CROSS JOIN LATERAL (VALUES
                    (1, greatest(l.available, 0)), (2, l.oversell_cap + least(l.available, 0))
                ) AS x (phase, quantity)
                WHERE x.quantity > 0
            ) AS supply
            WHERE before < asked
            GROUP BY line_no, variant_id, location_id
        ) AS shares);
END
$$;

COMMENT ON FUNCTION shop.split_line(shop.order_demand[], shop.stock_levels[]) IS
'Which location serves how much of each line of one order, over locked levels: nearest priority first, backorders last. Less than asked where there is less.';
