CREATE OR REPLACE VIEW api.order_lines AS
SELECT
    l.order_id, l.line_no, v.sku, v.title, r.title AS product, g.name AS category,
    coalesce(d.name, g.name) AS department,
    l.quantity, l.backordered, l.unit_amount, l.total_amount, l.currency
FROM shop.order_lines AS l
JOIN shop.product_variants AS v ON v.id = l.variant_id
JOIN shop.products AS r ON r.id = v.product_id
JOIN shop.categories AS g ON g.id = r.category_id
LEFT JOIN shop.categories AS d ON d.id = g.parent_id;

COMMENT ON VIEW api.order_lines IS 'The lines of orders with what was bought; add `line_no` to order them.';
