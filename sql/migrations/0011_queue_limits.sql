-- How long orders may wait behind the SQL door before further ones are refused.

SET LOCAL lock_timeout = '10s';
SET LOCAL statement_timeout = '10min';

-- NULL: as long as it takes. A column of what submitting reads anyway, so that a pool without a limit costs nothing.
-- squawk-ignore constraint-missing-not-valid
ALTER TABLE shop.pools ADD COLUMN max_wait interval
CONSTRAINT max_wait_in_range CHECK (max_wait BETWEEN interval '100 milliseconds' AND interval '1 day');

-- One row a pool that has a limit: what its drain saw when it last looked. Room in the page, and no index but the key:
-- a look is a HOT update.
CREATE TABLE shop.queue_looks (
    pool_id integer CONSTRAINT queue_looks_pkey PRIMARY KEY
    CONSTRAINT look_is_at_a_pool REFERENCES shop.pools (id),
    looked_at timestamptz NOT NULL DEFAULT '-infinity',
    waiting bigint NOT NULL DEFAULT 0,
    expected_wait interval NOT NULL DEFAULT '0',
    -- Orders a second, while there was always one waiting; NULL: that was not seen yet.
    rate double precision,
    -- By all drains, since the look.
    taken bigint NOT NULL DEFAULT 0,
    floor_id bigint NOT NULL DEFAULT 0,
    CONSTRAINT waiting_not_negative CHECK (waiting >= 0),
    CONSTRAINT rate_above_zero CHECK (rate > 0),
    CONSTRAINT taken_not_negative CHECK (taken >= 0)
) WITH (fillfactor = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);
