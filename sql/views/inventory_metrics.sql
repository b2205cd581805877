CREATE OR REPLACE VIEW api.inventory_metrics AS
WITH paced AS (
    SELECT
        m.variant_id, m.location_id, m.available + m.held + m.committed + m.unavailable AS on_hand, m.available, m.held,
        m.committed, m.unavailable, m.incoming, m.in_transit, m.low_stock_threshold, m.units_sold, s.refreshed_at,
        round(m.units_sold / greatest(
            1, extract(EPOCH FROM s.refreshed_at - greatest(s.from_at, v.created_at)) / 86400
        ), 4) AS units_per_day
    FROM shop.inventory_metrics AS m
    JOIN shop.product_variants AS v ON v.id = m.variant_id
    JOIN shop.view_states AS s ON s.view = 'inventory_metrics'
)

SELECT
    v.sku, o.code AS location, p.code AS pool, c.code AS category, m.on_hand, m.available, m.held, m.committed,
    m.unavailable, m.incoming, m.in_transit, m.low_stock_threshold, m.available <= m.low_stock_threshold AS low,
    m.available <= 0 AS is_out, m.units_sold, m.units_per_day,
    round(greatest(m.available, 0) / nullif(m.units_per_day, 0), 1) AS days_of_cover,
    round(365 * m.units_per_day / nullif(m.on_hand, 0), 2) AS turns_per_year,
    m.on_hand * v.price_amount::numeric AS value_at_list_price, v.currency, m.refreshed_at
FROM paced AS m
JOIN shop.product_variants AS v ON v.id = m.variant_id
JOIN shop.products AS r ON r.id = v.product_id
JOIN shop.categories AS c ON c.id = r.category_id
JOIN shop.locations AS o ON o.id = m.location_id
JOIN shop.pools AS p ON p.id = o.pool_id;

COMMENT ON VIEW api.inventory_metrics IS
'The stock of each sku at each location, as of refreshed_at: its accounts, whether it is low or out, what was sold from there within the window, for how many days it lasts at that rate, how often it turns over in a year, and its value at list price in minor units.';
