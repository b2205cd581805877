CREATE OR REPLACE FUNCTION shop.verify_webhooks() RETURNS TABLE (check_name text, entry text, detail jsonb)
LANGUAGE sql STABLE
SET search_path = shop, pg_temp
AS $$
    WITH asleep AS (
        SELECT 'a_waiting_delivery_has_its_stream' AS check_name, d.stream AS entry, jsonb_build_object(
            'endpoint_id', d.endpoint_id, 'position', d.position) AS detail
        FROM webhook_deliveries AS d
        WHERE d.ended_at IS NULL AND NOT EXISTS (
            SELECT FROM delivery_streams AS s WHERE s.endpoint_id = d.endpoint_id AND s.stream = d.stream)
        ORDER BY d.endpoint_id, d.position
    ), empty AS (
        SELECT 'a_stream_has_something_waiting' AS check_name, s.stream AS entry, jsonb_build_object(
            'endpoint_id', s.endpoint_id) AS detail
        FROM delivery_streams AS s
        WHERE NOT EXISTS (
            SELECT FROM webhook_deliveries AS d
            WHERE d.endpoint_id = s.endpoint_id AND d.stream = s.stream AND d.ended_at IS NULL)
        ORDER BY s.endpoint_id, s.stream
    )
    SELECT * FROM asleep UNION ALL SELECT * FROM empty
$$;

COMMENT ON FUNCTION shop.verify_webhooks() IS 'Deliveries that nobody would send, and streams with nothing to send.';
