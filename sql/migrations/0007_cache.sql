-- The cache's consumer of events.

SET LOCAL lock_timeout = '10s';
SET LOCAL statement_timeout = '10min';

-- It deletes what an event made stale; what happened before there was a cache is in no cache.
INSERT INTO shop.event_consumers (consumer, position, outside)
SELECT 'cache' AS consumer, h.position, true AS outside FROM shop.event_head AS h;

-- While these are made the catalog cannot be written; orders only read it, and so do not wait.
-- For api.read_products: the variants of a product.
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX variants_by_product ON shop.product_variants (product_id, id);
-- For api.read_categories: a category's products in the order of their codes, and what is below it.
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX products_by_category ON shop.products (category_id, code);
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX categories_by_parent ON shop.categories (parent_id, code);
