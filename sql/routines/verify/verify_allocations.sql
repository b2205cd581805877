CREATE OR REPLACE FUNCTION shop.verify_allocations() RETURNS TABLE (check_name text, entry text, detail jsonb)
LANGUAGE sql STABLE
SET search_path = shop, pg_temp
AS $$
    WITH promised AS (
        SELECT variant_id, location_id, coalesce(sum(quantity) FILTER (WHERE state = 'held'), 0) AS held,
            coalesce(sum(quantity) FILTER (WHERE state = 'committed'), 0) AS committed
        FROM order_allocations WHERE state IN ('held', 'committed') AND id >= (SELECT retired_below())
        GROUP BY variant_id, location_id
    ), by_level AS (
        SELECT 'level_is_its_allocations' AS check_name,
            coalesce(v.sku, variant_id::text) || ' at ' || coalesce(p.code, location_id::text) AS entry,
            jsonb_build_object('expected', jsonb_build_object('held', a.held, 'committed', a.committed),
                'found', jsonb_build_object('held', l.held, 'committed', l.committed)) AS detail
        FROM stock_levels AS l
        FULL JOIN promised AS a USING (variant_id, location_id)
        LEFT JOIN product_variants AS v ON v.id = variant_id
        LEFT JOIN locations AS p ON p.id = location_id
        WHERE coalesce(l.held, 0) <> coalesce(a.held, 0) OR coalesce(l.committed, 0) <> coalesce(a.committed, 0)
        ORDER BY variant_id, location_id
    ), by_line AS (
        SELECT 'line_is_allocated_whole' AS check_name, coalesce(n.id, a.line_id)::text AS entry,
            jsonb_build_object('expected', n.quantity, 'found', a.quantity, 'states', a.states, 'order', o.status) AS detail
        FROM (SELECT * FROM order_lines WHERE id >= (SELECT retired_below())) AS n
        FULL JOIN (
            SELECT line_id, sum(quantity) AS quantity, array_agg(DISTINCT state) AS states,
                min(variant_id) AS variant_id, count(DISTINCT variant_id) AS variants,
                array_agg(DISTINCT order_id) AS orders
            FROM order_allocations WHERE id >= (SELECT retired_below()) GROUP BY line_id
        ) AS a ON a.line_id = n.id
        LEFT JOIN orders AS o ON o.id = n.order_id
        WHERE n.quantity IS DISTINCT FROM a.quantity OR n.variant_id <> a.variant_id OR a.variants > 1
            OR a.orders <> ARRAY[n.order_id] OR n.id NOT BETWEEN n.order_id AND shop.part_id(n.order_id, 65535)
            OR a.states IS DISTINCT FROM CASE o.status
                WHEN 'held' THEN '{held}'::text[] WHEN 'placed' THEN '{committed}' WHEN 'cancelled' THEN '{released}'
                WHEN 'expired' THEN '{released}' WHEN 'completed' THEN '{fulfilled}' ELSE a.states END
        ORDER BY 2
    )
    , elsewhere AS (
        SELECT 'allocation_is_of_its_order' AS check_name, a.id::text AS entry, jsonb_build_object(
            'order', a.order_id, 'location', l.code) AS detail
        FROM order_allocations AS a
        LEFT JOIN orders AS o ON o.id = a.order_id
        LEFT JOIN locations AS l ON l.id = a.location_id
        WHERE a.id >= (SELECT retired_below()) AND (o.id IS NULL OR l.pool_id IS DISTINCT FROM o.pool_id
            OR a.id NOT BETWEEN a.order_id AND shop.part_id(a.order_id, 65535))
        ORDER BY a.id
    )
    SELECT * FROM by_level UNION ALL SELECT * FROM by_line UNION ALL SELECT * FROM elsewhere
$$;

COMMENT ON FUNCTION shop.verify_allocations() IS
'Levels whose held or committed stock is not what orders have, and lines that are not allocated whole, in the state of their order.';
