-- The cache's consumer of events.

SET LOCAL lock_timeout = '10s';
SET LOCAL statement_timeout = '10min';
