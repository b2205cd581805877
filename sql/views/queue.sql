CREATE OR REPLACE VIEW api.queue AS
SELECT
    p.code AS pool, count(q.id) FILTER (WHERE q.claim_id IS NULL) AS waiting, count(q.claim_id) AS claimed,
    min(q.received_at) AS oldest, p.max_wait,
    CASE WHEN p.max_wait IS NOT NULL THEN api.queue_wait(p.id, p.max_wait) END AS expected_wait
FROM shop.pools AS p
LEFT JOIN shop.order_queue AS q ON q.pool_id = p.id
GROUP BY p.id;

COMMENT ON VIEW api.queue IS
'How much waits behind the SQL door, by pool, and since when; how long an order may wait, where that is limited, and about how long it would now.';
