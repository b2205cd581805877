-- How long an order would wait counts what came since a drain's last look, so that it holds however many are offered.

SET LOCAL lock_timeout = '10s';
SET LOCAL statement_timeout = '10min';

-- The last number that the queue had given at the look, and which part of those given before was of this pool.
-- One row a pool, checked at once.
-- squawk-ignore constraint-missing-not-valid
ALTER TABLE shop.queue_looks
ADD COLUMN last_id bigint NOT NULL DEFAULT 0,
ADD COLUMN share double precision NOT NULL DEFAULT 1
CONSTRAINT share_is_a_part CHECK (share BETWEEN 0 AND 1);
