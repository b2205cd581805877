CREATE OR REPLACE VIEW api.dead_letters AS
SELECT id, source, key, payload, code, reason, attempts, created_at FROM shop.dead_letters;

COMMENT ON VIEW api.dead_letters IS 'What could not be done, with its payload and reason.';
