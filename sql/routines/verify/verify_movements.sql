CREATE OR REPLACE FUNCTION shop.verify_movements() RETURNS TABLE (check_name text, entry text, detail jsonb)
LANGUAGE sql STABLE
SET search_path = shop, pg_temp
AS $$
    WITH unknown AS (
        SELECT 'movement_is_of_something' AS check_name, m.id::text AS entry, jsonb_build_object(
            'variant', m.variant_id, 'from', m.from_location_id, 'to', m.to_location_id, 'order', m.order_id) AS detail
        FROM stock_movements AS m
        WHERE m.id >= (SELECT retired_below()) AND (NOT EXISTS (SELECT FROM product_variants AS v WHERE v.id = m.variant_id)
            OR (m.from_location_id IS NOT NULL AND NOT EXISTS (SELECT FROM locations AS l WHERE l.id = m.from_location_id))
            OR (m.to_location_id IS NOT NULL AND NOT EXISTS (SELECT FROM locations AS l WHERE l.id = m.to_location_id))
            -- An order of a retired month may have been finished in a later one.
            OR (m.order_id >= (SELECT retired_below()) AND NOT EXISTS (SELECT FROM orders AS o WHERE o.id = m.order_id)))
        ORDER BY m.id
    ), entries AS (
        SELECT order_id, variant_id, to_location_id AS location_id, to_account AS account, quantity
        FROM stock_movements WHERE id >= (SELECT retired_below()) AND order_id >= (SELECT retired_below())
            AND to_account IN ('held', 'committed')
        UNION ALL
        SELECT order_id, variant_id, from_location_id, from_account, -quantity
        FROM stock_movements WHERE id >= (SELECT retired_below()) AND order_id >= (SELECT retired_below())
            AND from_account IN ('held', 'committed')
        UNION ALL
        SELECT order_id, variant_id, location_id, state, -quantity
        FROM order_allocations WHERE state IN ('held', 'committed') AND id >= (SELECT retired_below())
    ), moved AS (
        SELECT 'allocation_is_its_movements' AS check_name, order_id::text AS entry, jsonb_build_object(
            'variant', variant_id, 'location', location_id, 'account', account, 'off_by', sum(quantity)) AS detail
        FROM entries GROUP BY order_id, variant_id, location_id, account HAVING sum(quantity) <> 0
        ORDER BY order_id
    )
    SELECT * FROM unknown UNION ALL SELECT * FROM moved
$$;

COMMENT ON FUNCTION shop.verify_movements() IS
'Movements of what is not there, and orders whose allocations are not what was moved for them.';
