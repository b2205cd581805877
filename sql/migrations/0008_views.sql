-- Materialized views and how fresh they are kept.

SET LOCAL lock_timeout = '10s';
SET LOCAL statement_timeout = '10min';
