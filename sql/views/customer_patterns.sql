CREATE OR REPLACE VIEW api.customer_patterns AS
WITH timed AS (
    SELECT
        m.customer_id, m.currency, m.orders, m.cancelled, m.units, m.lines, m.revenue, m.first_order_at,
        m.last_order_at, m.favourite_category_id, m.recency_score, m.frequency_score, m.monetary_score,
        extract(EPOCH FROM m.last_order_at - m.first_order_at) / 86400 AS days
    FROM shop.customer_patterns AS m
)

SELECT
    u.number AS customer, m.currency, m.orders, m.cancelled, m.units, m.revenue,
    round(m.revenue / m.orders, 2) AS average_order_value,
    round(m.units / m.orders::numeric, 2) AS average_basket_units,
    round(m.lines / m.orders::numeric, 2) AS average_basket_lines, m.first_order_at, m.last_order_at,
    floor(extract(EPOCH FROM now() - m.last_order_at) / 86400)::integer AS days_since_last_order,
    round(m.days / nullif(m.orders - 1, 0), 1) AS days_between_orders,
    round(m.orders / greatest(1, m.days / 30.4375), 2) AS orders_per_month, c.code AS favourite_category,
    m.recency_score, m.frequency_score, m.monetary_score, s.refreshed_at
FROM timed AS m
JOIN shop.customers AS u ON u.id = m.customer_id
JOIN shop.categories AS c ON c.id = m.favourite_category_id
JOIN shop.view_states AS s ON s.view = 'customer_patterns';

COMMENT ON VIEW api.customer_patterns IS
'How each customer buys, by currency, as of refreshed_at: recency, frequency and monetary value with scores from 1 to 5 (5: the best fifth of those who buy in this currency), the average basket, the time between orders, and the category they spent most in.';
