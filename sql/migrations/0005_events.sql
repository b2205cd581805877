-- What happened, in positions, and how far each consumer is.

SET LOCAL lock_timeout = '10s';
SET LOCAL statement_timeout = '10min';

-- Events of one stream are written under the lock of its order or level, so the order in which they were written is
-- their order; an id has only milliseconds, and a clock may step back. The sequencer reads by it.
-- squawk: no release has this table yet, so there is none that is long enough to be locked for long.
-- squawk-ignore adding-field-with-default
ALTER TABLE shop.events_inbox ADD COLUMN seq bigint GENERATED ALWAYS AS IDENTITY;
-- squawk-ignore ban-drop-constraint
ALTER TABLE shop.events_inbox DROP CONSTRAINT events_inbox_pkey;
-- squawk-ignore adding-serial-primary-key-field,constraint-missing-not-valid
ALTER TABLE shop.events_inbox ADD CONSTRAINT events_inbox_pkey PRIMARY KEY (seq);
ALTER TABLE shop.events_inbox SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);

CREATE TABLE shop.events (
    position bigint NOT NULL,
    id uuid NOT NULL,
    stream text NOT NULL,
    kind text NOT NULL,
    payload jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    sequenced_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT events_pkey PRIMARY KEY (id),
    CONSTRAINT position_from_one CHECK (position > 0)
) PARTITION BY RANGE (id);

-- For api.dispatch_events: what comes after a consumer's cursor.
CREATE INDEX events_by_position ON shop.events (position);
-- For api.events: the story of one order or level.
CREATE INDEX events_by_stream ON shop.events (stream, position);

-- The position that was given last. One row, written by the sequencer alone, so positions have no gap.
CREATE TABLE shop.event_head (
    only_one boolean CONSTRAINT event_head_pkey PRIMARY KEY DEFAULT true,
    position bigint NOT NULL DEFAULT 0,
    CONSTRAINT there_is_one_head CHECK (only_one),
    CONSTRAINT head_not_negative CHECK (position >= 0)
) WITH (fillfactor = 10);
INSERT INTO shop.event_head DEFAULT VALUES;

-- A consumer's effect and its cursor are one transaction: the routine shop.consume_<consumer>. Where the effect is
-- outside the database, a worker does it, and then moves the cursor: at least once.
CREATE TABLE shop.event_consumers (
    consumer text CONSTRAINT event_consumers_pkey PRIMARY KEY,
    position bigint NOT NULL DEFAULT 0,
    outside boolean NOT NULL DEFAULT false,
    moved_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT consumer_can_name_a_routine CHECK (consumer ~ '^[a-z][a-z_]{0,39}$'),
    CONSTRAINT cursor_not_negative CHECK (position >= 0)
) WITH (fillfactor = 10);

-- Not only requests can be dead: an event that a consumer cannot take, a delivery, a mail. 0006 checks the old rows.
-- squawk-ignore ban-drop-constraint
ALTER TABLE shop.dead_letters DROP CONSTRAINT dead_letter_source_is_known;
ALTER TABLE shop.dead_letters ADD CONSTRAINT dead_letter_source_is_known
CHECK (source IN ('sql', 'celery', 'events', 'webhooks', 'mail')) NOT VALID;
