CREATE OR REPLACE VIEW api.webhook_endpoints AS
SELECT
    w.name, substring(w.url FROM '^https?://[^/?]+') AS url, w.kinds, w.timeout_ms, w.created_at, w.disabled_at,
    w.disabled_reason, w.failures, w.failing_since, w.rests_until, w.last_status, w.last_error, w.last_at,
    w.delivered_at,
    q.waiting,
    (
        SELECT e.created_at FROM shop.events AS e
        WHERE e.position = q.first_position
    ) AS oldest,
    w.replay_position, w.replay_until,
    CASE WHEN w.previous_until > clock_timestamp() THEN w.previous_until END AS previous_secret_until
FROM shop.webhook_endpoints AS w
CROSS JOIN LATERAL (
    SELECT count(*) AS waiting, min(d.position) AS first_position FROM shop.webhook_deliveries AS d
    WHERE d.endpoint_id = w.id AND d.ended_at IS NULL
) AS q;

COMMENT ON VIEW api.webhook_endpoints IS
'Who is told what, how it went lately (failures in a row), and how many deliveries wait, the oldest since when. Without secrets, and of the address only the host: the rest of it may be one.';
