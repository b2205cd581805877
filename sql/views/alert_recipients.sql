CREATE OR REPLACE VIEW api.alert_recipients AS
SELECT r.id, r.address, r.min_escalation, p.code AS pool, g.code AS category
FROM shop.alert_recipients AS r
LEFT JOIN shop.pools AS p ON p.id = r.pool_id
LEFT JOIN shop.categories AS g ON g.id = r.category_id;

COMMENT ON VIEW api.alert_recipients IS
'Who gets mail about low stock, from which escalation on; without a pool or a category: of all.';
