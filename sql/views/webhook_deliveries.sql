CREATE OR REPLACE VIEW api.webhook_deliveries AS
SELECT
    w.name AS endpoint, e.position, e.id AS event_id, e.stream, e.kind, e.payload ->> 'key' AS key,
    CASE
        WHEN d.letter_id IS NOT NULL THEN 'dead' WHEN d.ended_at IS NOT NULL THEN 'delivered' ELSE 'waiting'
    END AS state,
    d.attempts, d.status, d.error, d.ms, d.last_at, d.ended_at, d.letter_id,
    CASE WHEN d.ended_at IS NULL THEN s.due_at END AS due_at
FROM shop.events AS e
CROSS JOIN shop.webhook_endpoints AS w
JOIN shop.webhook_deliveries AS d ON d.endpoint_id = w.id AND d.position = e.position
LEFT JOIN shop.delivery_streams AS s ON s.endpoint_id = d.endpoint_id AND s.stream = d.stream;

COMMENT ON VIEW api.webhook_deliveries IS
'Each delivery of an event to an endpoint: waiting, delivered or dead, its attempts, and what the last one gave. Ask by stream (order:<id>), position or event_id; ended ones are kept for ORDERMILL_WEBHOOKS_KEPT_DAYS.';
