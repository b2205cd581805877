CREATE OR REPLACE VIEW api.alerts AS
SELECT
    a.id, v.sku, r.title AS product, g.code AS category, o.code AS location, p.code AS pool, a.level,
    -- The job that wakes it may not have come yet.
    CASE WHEN a.state = 'snoozed' AND a.waits_since <= clock_timestamp() THEN 'open' ELSE a.state END AS state,
    a.escalation, l.available, coalesce(l.low_stock_threshold, g.low_stock_threshold) AS threshold, a.opened_at,
    coalesce(a.resolved_at, clock_timestamp()) - a.opened_at AS age,
    CASE WHEN a.state = 'snoozed' AND a.waits_since > clock_timestamp() THEN a.waits_since END AS snoozed_until,
    a.handled_by, a.resolved_at, a.recovered_at, a.variant_id, a.location_id
FROM shop.alerts AS a
JOIN shop.stock_levels AS l ON l.variant_id = a.variant_id AND l.location_id = a.location_id
JOIN shop.product_variants AS v ON v.id = a.variant_id
JOIN shop.products AS r ON r.id = v.product_id
JOIN shop.categories AS g ON g.id = r.category_id
JOIN shop.locations AS o ON o.id = a.location_id
JOIN shop.pools AS p ON p.id = o.pool_id;

COMMENT ON VIEW api.alerts IS
'Alerts of low stock, one per sku and location until it recovers: level low or out is the worst since it was opened; available and threshold are as they are now. Open ones: state is not resolved.';
