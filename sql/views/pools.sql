CREATE OR REPLACE VIEW api.pools AS SELECT id, code, name, currency FROM shop.pools;

COMMENT ON VIEW api.pools IS 'The pools that orders name.';
