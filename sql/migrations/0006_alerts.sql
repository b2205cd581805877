-- Alerts of low stock and who is told.

SET LOCAL lock_timeout = '10s';
SET LOCAL statement_timeout = '10min';

ALTER TABLE shop.dead_letters VALIDATE CONSTRAINT dead_letter_source_is_known;

-- What is low and who looks after it. Its story is in the events of stream alert:<id>.
CREATE TABLE shop.alerts (
    id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT alerts_pkey PRIMARY KEY,
    variant_id bigint NOT NULL CONSTRAINT alert_has_a_variant REFERENCES shop.product_variants (id),
    location_id integer NOT NULL CONSTRAINT alert_has_a_location REFERENCES shop.locations (id),
    -- The worst since it was opened: it is told once that nothing is left, however often that comes and goes.
    level text NOT NULL,
    state text NOT NULL DEFAULT 'open',
    escalation smallint NOT NULL DEFAULT 0,
    opened_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- Since when nobody looks after it; of a snoozed one in the future: when it wakes.
    waits_since timestamptz NOT NULL DEFAULT clock_timestamp(),
    handled_by text,
    resolved_at timestamptz,
    recovered_at timestamptz,
    CONSTRAINT alert_level_is_known CHECK (level IN ('low', 'out')),
    CONSTRAINT alert_state_is_known CHECK (state IN ('open', 'acknowledged', 'snoozed', 'resolved')),
    CONSTRAINT escalation_in_range CHECK (escalation BETWEEN 0 AND 2),
    CONSTRAINT a_resolved_alert_has_its_time CHECK ((state = 'resolved') = (resolved_at IS NOT NULL)),
    CONSTRAINT only_a_resolved_alert_has_recovered CHECK (recovered_at IS NULL OR state = 'resolved')
);

-- One alert per variant and location until the level recovers: also when a person resolved it before.
CREATE UNIQUE INDEX alerts_not_recovered ON shop.alerts (variant_id, location_id) WHERE recovered_at IS NULL;
-- For api.escalate_alerts: what can still be escalated, and what is to wake.
CREATE INDEX alerts_unattended ON shop.alerts (waits_since)
WHERE state = 'snoozed' OR (state = 'open' AND escalation < 2);
-- For api.prune_alerts.
CREATE INDEX alerts_by_recovery ON shop.alerts (recovered_at) WHERE recovered_at IS NOT NULL;

-- Who gets mail: of a pool, of a category with those below it, or of all; from an escalation on.
CREATE TABLE shop.alert_recipients (
    id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT alert_recipients_pkey PRIMARY KEY,
    address text NOT NULL,
    min_escalation smallint NOT NULL DEFAULT 0,
    pool_id integer CONSTRAINT recipient_has_a_known_pool REFERENCES shop.pools (id),
    category_id bigint CONSTRAINT recipient_has_a_known_category REFERENCES shop.categories (id),
    CONSTRAINT recipient_is_listed_once UNIQUE NULLS NOT DISTINCT (address, pool_id, category_id),
    -- ASCII without blanks, and no dot that parts nothing: it becomes a header and an argument of SMTP. A header would
    -- decode what begins with =?.
    CONSTRAINT recipient_can_be_mailed CHECK (
        char_length(address) <= 254 AND address ~ '^[A-Za-z0-9.!#$%&''*+/=?^_`{|}~-]+@[A-Za-z0-9.-]+$'
        AND address !~ '=[?]|^[.]|[.][.]|[.]@|@[.]|[.]$'
    ),
    CONSTRAINT min_escalation_in_range CHECK (min_escalation BETWEEN 0 AND 2)
);

-- What is to be told: a mail to an address, or lines in the log (address NULL). Until it is first tried it gathers
-- alerts, so that a bad night is one mail. Its id is the mail's Message-ID.
CREATE TABLE shop.alert_notices (
    id uuid CONSTRAINT alert_notices_pkey PRIMARY KEY,
    address text,
    alert_ids bigint[] NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    due_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    leased_until timestamptz,
    last_error text,
    sent_at timestamptz,
    CONSTRAINT notice_is_about_something CHECK (cardinality(alert_ids) > 0),
    CONSTRAINT notice_attempts_not_negative CHECK (attempts >= 0),
    CONSTRAINT a_sent_notice_is_not_leased CHECK (sent_at IS NULL OR leased_until IS NULL)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);

-- The one that gathers for an address.
CREATE UNIQUE INDEX alert_notices_gathering ON shop.alert_notices (address) NULLS NOT DISTINCT WHERE attempts = 0;
-- For api.claim_alert_notice: what is not sent.
CREATE INDEX alert_notices_due ON shop.alert_notices (due_at) WHERE sent_at IS NULL;
-- For api.prune_alerts.
CREATE INDEX alert_notices_by_age ON shop.alert_notices (sent_at) WHERE sent_at IS NOT NULL;

INSERT INTO shop.event_consumers (consumer) VALUES ('alerts');
