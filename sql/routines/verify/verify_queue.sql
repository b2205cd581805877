CREATE OR REPLACE FUNCTION shop.verify_queue() RETURNS TABLE (check_name text, entry text, detail jsonb)
LANGUAGE sql STABLE
SET search_path = shop, pg_temp
AS $$
    WITH lost AS (
        SELECT 'an_accepted_key_waits_in_the_queue' AS check_name, k.key AS entry, jsonb_build_object(
            'kind', k.kind, 'received_at', k.received_at) AS detail
        FROM request_keys AS k
        WHERE k.status = 'pending' AND NOT EXISTS (SELECT FROM order_queue AS q WHERE q.key = k.key) ORDER BY k.key
    ), keyless AS (
        SELECT 'a_queued_order_has_its_key' AS check_name, q.key AS entry, jsonb_build_object('queue_id', q.id) AS detail
        FROM order_queue AS q
        WHERE NOT EXISTS (SELECT FROM request_keys AS k WHERE k.key = q.key) ORDER BY q.id
    ), unclaimed AS (
        SELECT 'a_claimed_order_has_its_claim' AS check_name, q.key AS entry, jsonb_build_object(
            'queue_id', q.id, 'claim', q.claim_id) AS detail
        FROM order_queue AS q
        WHERE q.claim_id IS NOT NULL AND NOT EXISTS (
            SELECT FROM claims AS c WHERE c.id = q.claim_id AND q.id = ANY (c.queue_ids)) ORDER BY q.id
    ), empty AS (
        SELECT 'a_claim_has_its_orders' AS check_name, c.id::text AS entry, jsonb_build_object(
            'expected', c.queue_ids, 'found', array_agg(q.id ORDER BY q.id)) AS detail
        FROM claims AS c LEFT JOIN order_queue AS q ON q.claim_id = c.id AND q.id = ANY (c.queue_ids)
        GROUP BY c.id HAVING count(q.id) < cardinality(c.queue_ids) ORDER BY c.id
    )
    SELECT * FROM lost UNION ALL SELECT * FROM keyless UNION ALL SELECT * FROM unclaimed UNION ALL SELECT * FROM empty
$$;

COMMENT ON FUNCTION shop.verify_queue() IS 'Accepted orders that nobody would place.';
