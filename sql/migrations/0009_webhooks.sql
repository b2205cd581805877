-- Endpoints, and the deliveries to them.

SET LOCAL lock_timeout = '10s';
SET LOCAL statement_timeout = '10min';
