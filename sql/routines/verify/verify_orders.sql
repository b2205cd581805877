CREATE OR REPLACE FUNCTION shop.verify_orders() RETURNS TABLE (check_name text, entry text, detail jsonb)
LANGUAGE sql STABLE
SET search_path = shop, pg_temp
AS $$
    WITH totals AS (
        SELECT order_id, sum(total_amount) AS amount, count(DISTINCT variant_id) AS variants, count(*) AS lines
        FROM order_lines WHERE id >= (SELECT retired_below()) GROUP BY order_id
    ), by_total AS (
        SELECT 'order_is_its_lines' AS check_name, o.id::text AS entry, jsonb_build_object(
            'expected', t.amount, 'found', o.total_amount, 'lines', t.lines, 'variants', t.variants) AS detail
        FROM orders AS o LEFT JOIN totals AS t ON t.order_id = o.id
        WHERE o.id >= (SELECT retired_below()) AND (o.total_amount IS DISTINCT FROM t.amount OR t.lines <> t.variants)
        ORDER BY o.id
    ), by_key AS (
        -- Within a day: a key is kept at least that long; pruned, it may be used again.
        SELECT 'a_key_has_one_order' AS check_name, key AS entry, jsonb_build_object('orders', array_agg(id)) AS detail
        FROM (
            SELECT key, id, created_at - lag(created_at) OVER w < interval '1 day'
                OR lead(created_at) OVER w - created_at < interval '1 day' AS again
            FROM orders WINDOW w AS (PARTITION BY key ORDER BY created_at)
        ) AS near
        WHERE again GROUP BY key ORDER BY key
    )
    SELECT * FROM by_total UNION ALL SELECT * FROM by_key
$$;

COMMENT ON FUNCTION shop.verify_orders() IS 'Orders whose total is not their lines'', that have none or a variant twice, or that share a key.';
