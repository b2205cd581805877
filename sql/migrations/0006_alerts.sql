-- Alerts of low stock and who is told.

SET LOCAL lock_timeout = '10s';
SET LOCAL statement_timeout = '10min';

ALTER TABLE shop.dead_letters VALIDATE CONSTRAINT dead_letter_source_is_known;
