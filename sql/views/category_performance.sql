CREATE OR REPLACE VIEW api.category_performance AS
SELECT
    c.code AS category, c.name, p.code AS parent, m.currency, m.own_units, m.own_revenue, m.variants_sold, m.units,
    m.revenue, round(m.revenue / nullif(m.units, 0), 2) AS average_price, m.cancelled_units, m.last_sold_at,
    s.refreshed_at
FROM shop.category_performance AS m
JOIN shop.categories AS c ON c.id = m.category_id
JOIN shop.view_states AS s ON s.view = 'category_performance'
LEFT JOIN shop.categories AS p ON p.id = c.parent_id;

COMMENT ON VIEW api.category_performance IS
'What each category sold within the window of api.product_performance, by currency, as of refreshed_at: own_… of its own products, the rest of all categories below it too. So add up only own_…, or those without a parent.';
