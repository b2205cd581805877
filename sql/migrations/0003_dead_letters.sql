-- What becomes of a dead letter, and how often a message was tried whose workers died.

SET LOCAL lock_timeout = '10s';
SET LOCAL statement_timeout = '10min';

-- One row a message that came back from a dead worker, until it is decided; so there are few.
CREATE TABLE shop.message_attempts (
    message text CONSTRAINT message_attempts_pkey PRIMARY KEY,
    attempts integer NOT NULL,
    last_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT counted_at_least_once CHECK (attempts > 0)
);

-- An order's letter has neither task nor queue, a failed task's has its task, an unread item's its queue.
ALTER TABLE shop.dead_letters
ADD COLUMN task text,
ADD COLUMN queue text,
ADD COLUMN settled_at timestamptz,
ADD COLUMN settlement text,
-- 0004 checks them over the letters that are there: that takes a while, and this lock stops everybody.
ADD CONSTRAINT settlement_is_known CHECK (settlement IN ('replayed', 'discarded')) NOT VALID,
ADD CONSTRAINT a_settled_letter_says_how CHECK ((settled_at IS NULL) = (settlement IS NULL)) NOT VALID;
