CREATE OR REPLACE VIEW api.availability AS
SELECT
    v.sku, p.code AS pool, sum(l.available)::bigint AS available, sum(l.held)::bigint AS held,
    sum(l.committed)::bigint AS committed, sum(l.available + l.oversell_cap)::bigint AS can_order,
    bool_or(l.available <= coalesce(l.low_stock_threshold, g.low_stock_threshold)) AS low
FROM shop.stock_levels AS l
JOIN shop.product_variants AS v ON v.id = l.variant_id
JOIN shop.products AS r ON r.id = v.product_id
JOIN shop.categories AS g ON g.id = r.category_id
JOIN shop.locations AS o ON o.id = l.location_id
JOIN shop.pools AS p ON p.id = o.pool_id
GROUP BY v.sku, p.code;

COMMENT ON VIEW api.availability IS
'What can be ordered of a sku in a pool now (can_order counts permitted backorders); low: at or below a threshold somewhere.';
