CREATE OR REPLACE VIEW api.product_performance AS
WITH paced AS (
    SELECT
        m.variant_id, s.refreshed_at, round(m.units / greatest(
            1, extract(EPOCH FROM s.refreshed_at - greatest(s.from_at, v.created_at)) / 86400
        ), 4) AS units_per_day,
        (
            SELECT sum(n.available)::bigint FROM shop.inventory_metrics AS n
            WHERE n.variant_id = m.variant_id
        ) AS available,
        m.currency, m.orders, m.units, m.revenue, m.backordered, m.cancelled_units, m.last_sold_at
    FROM shop.product_performance AS m
    JOIN shop.product_variants AS v ON v.id = m.variant_id
    JOIN shop.view_states AS s ON s.view = 'product_performance'
)

SELECT
    v.sku, v.title, r.code AS product, c.code AS category, m.currency, m.orders, m.units, m.revenue,
    round(m.revenue / nullif(m.units, 0), 2) AS average_price, m.backordered, m.cancelled_units,
    round(m.cancelled_units / nullif(m.units + m.cancelled_units, 0)::numeric, 4) AS cancelled_share, m.last_sold_at,
    m.units_per_day, m.available, round(greatest(m.available, 0) / nullif(m.units_per_day, 0), 1) AS days_of_cover,
    m.refreshed_at
FROM paced AS m
JOIN shop.product_variants AS v ON v.id = m.variant_id
JOIN shop.products AS r ON r.id = v.product_id
JOIN shop.categories AS c ON c.id = r.category_id;

COMMENT ON VIEW api.product_performance IS
'What each sku sold within the window, by currency, as of refreshed_at; a sku that sold nothing has no row. units_per_day is over the window, or since the sku is in the catalog; available (all locations) and days_of_cover are as of api.inventory_metrics.';
