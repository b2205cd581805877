CREATE OR REPLACE FUNCTION shop.verify_keys() RETURNS TABLE (check_name text, entry text, detail jsonb)
LANGUAGE sql STABLE
SET search_path = shop, pg_temp
AS $$
    WITH answered AS (
        SELECT key, status, (answer ->> 'order_id')::uuid AS order_id FROM request_keys
        WHERE status IN ('placed', 'held') AND kind IN ('order.place', 'order.hold')
    ), without_order AS (
        SELECT 'an_accepted_key_has_its_order' AS check_name, a.key AS entry, jsonb_build_object(
            'expected', a.order_id, 'found', o.id) AS detail
        FROM answered AS a LEFT JOIN orders AS o ON o.id = a.order_id AND o.key = a.key
        WHERE o.id IS NULL ORDER BY a.key
    ), without_key AS (
        -- A key is kept for at least a day; an older order may have outlived its key, and the key be in use again.
        SELECT 'an_order_has_its_key' AS check_name, o.id::text AS entry, jsonb_build_object(
            'key', o.key, 'found', k.status) AS detail
        FROM orders AS o LEFT JOIN request_keys AS k ON k.key = o.key
        WHERE (k.answer ->> 'order_id')::uuid IS DISTINCT FROM o.id
            AND o.created_at > coalesce(k.received_at - interval '1 hour', now() - interval '1 day')
        ORDER BY o.id
    ), dead AS (
        SELECT 'a_dead_key_has_its_letter' AS check_name, k.key AS entry, k.answer AS detail
        FROM request_keys AS k
        WHERE k.status = 'dead' AND NOT EXISTS (SELECT FROM dead_letters AS d WHERE d.key = k.key) ORDER BY k.key
    )
    SELECT * FROM without_order UNION ALL SELECT * FROM without_key UNION ALL SELECT * FROM dead
$$;

COMMENT ON FUNCTION shop.verify_keys() IS 'Keys that were promised an order that is not there, orders without their key, and deaths without a letter.';
