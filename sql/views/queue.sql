CREATE OR REPLACE VIEW api.queue AS
SELECT
    p.code AS pool, count(q.id) FILTER (WHERE q.claim_id IS NULL) AS waiting, count(q.claim_id) AS claimed,
    min(q.received_at) AS oldest
FROM shop.pools AS p
LEFT JOIN shop.order_queue AS q ON q.pool_id = p.id
GROUP BY p.code;

COMMENT ON VIEW api.queue IS 'How much waits behind the SQL door, by pool, and since when.';
