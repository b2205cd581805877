-- What 0003 added, for the letters that were there already; others read and write them meanwhile.

SET LOCAL lock_timeout = '10s';
SET LOCAL statement_timeout = '10min';

UPDATE shop.dead_letters SET task = payload ->> 'task'
WHERE code = 'OM091';

ALTER TABLE shop.dead_letters VALIDATE CONSTRAINT settlement_is_known;
ALTER TABLE shop.dead_letters VALIDATE CONSTRAINT a_settled_letter_says_how;
