CREATE OR REPLACE VIEW api.pools AS SELECT id, code, name, currency, max_wait FROM shop.pools;

COMMENT ON VIEW api.pools IS 'The pools that orders name, and how long an order may wait behind the SQL door, where that is limited.';
