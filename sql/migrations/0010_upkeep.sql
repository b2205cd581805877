-- Policies of retention and what upkeep found.

SET LOCAL lock_timeout = '10s';
SET LOCAL statement_timeout = '10min';
