CREATE OR REPLACE VIEW api.sales_by_hour AS
SELECT
    m.hour, p.code AS pool, m.currency, m.orders, m.units, m.revenue,
    round(m.revenue / nullif(m.orders, 0), 2) AS average_order_value, m.cancelled, m.cancelled_amount,
    round(m.cancelled / (m.orders + m.cancelled)::numeric, 4) AS cancelled_share, s.refreshed_at
FROM shop.sales_by_hour AS m
JOIN shop.pools AS p ON p.id = m.pool_id
JOIN shop.view_states AS s ON s.view = 'sales_by_hour';

COMMENT ON VIEW api.sales_by_hour IS
'Sales of each hour (UTC, by ordered_at) of the last days of trading, by pool and currency, as of refreshed_at: orders that were placed and stand, and those cancelled. Amounts in minor units.';
