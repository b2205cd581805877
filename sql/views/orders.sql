CREATE OR REPLACE VIEW api.orders AS
SELECT
    o.id, o.key, c.number AS customer, p.code AS pool, o.status, o.status_reason, o.currency, o.total_amount,
    o.ordered_at, o.created_at
FROM shop.orders AS o
JOIN shop.customers AS c ON c.id = o.customer_id
JOIN shop.pools AS p ON p.id = o.pool_id;

COMMENT ON VIEW api.orders IS 'Each order with its customer''s number and its pool''s code; amounts in minor units of its currency.';
