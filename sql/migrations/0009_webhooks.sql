-- Endpoints, and the deliveries to them.

SET LOCAL lock_timeout = '10s';
SET LOCAL statement_timeout = '10min';

-- Who is told what. Secrets are here and nowhere else: no view has them.
CREATE TABLE shop.webhook_endpoints (
    id integer GENERATED ALWAYS AS IDENTITY,
    name text NOT NULL,
    url text NOT NULL,
    kinds text[] NOT NULL,
    secret text NOT NULL,
    previous_secret text,
    previous_until timestamptz,
    timeout_ms integer NOT NULL DEFAULT 10000,
    since_position bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    disabled_at timestamptz,
    disabled_reason text,
    -- Its health: failures in a row, and until when it is left in peace.
    failures integer NOT NULL DEFAULT 0,
    failing_since timestamptz,
    rests_until timestamptz,
    last_status integer,
    last_error text,
    last_at timestamptz,
    delivered_at timestamptz,
    -- A replay at work: the next position to look at, and the last.
    replay_position bigint,
    replay_until bigint,
    CONSTRAINT webhook_endpoints_pkey PRIMARY KEY (id),
    CONSTRAINT endpoint_name_is_unique UNIQUE (name),
    CONSTRAINT endpoint_name_is_readable CHECK (name ~ '^[a-z0-9][a-z0-9_-]{0,59}$'),
    CONSTRAINT endpoint_url_is_plain
    CHECK (length(url) <= 2000 AND url ~ '^https?://[^[:space:]/?#@\\]+([/?][^[:space:]#\\]*)?$'),
    CONSTRAINT endpoint_wants_something CHECK (cardinality(kinds) BETWEEN 1 AND 100),
    CONSTRAINT secret_has_32_bytes CHECK (secret ~ '^whsec_[A-Za-z0-9+/]{43}=$'),
    CONSTRAINT previous_secret_runs_out CHECK ((previous_secret IS NULL) = (previous_until IS NULL)),
    CONSTRAINT endpoint_timeout_in_range CHECK (timeout_ms BETWEEN 100 AND 60000),
    CONSTRAINT a_disabled_endpoint_says_why CHECK ((disabled_at IS NULL) = (disabled_reason IS NULL)),
    CONSTRAINT endpoint_failures_not_negative CHECK (failures >= 0),
    CONSTRAINT a_replay_has_an_end CHECK ((replay_position IS NULL) = (replay_until IS NULL))
) WITH (fillfactor = 10);

-- One row an event and endpoint; what is told is in shop.events. Kept for a while when it has ended.
CREATE TABLE shop.webhook_deliveries (
    endpoint_id integer NOT NULL,
    position bigint NOT NULL,
    event_id uuid NOT NULL,
    stream text NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    status integer,
    error text,
    ms integer,
    last_at timestamptz,
    ended_at timestamptz,
    letter_id uuid,
    CONSTRAINT webhook_deliveries_pkey PRIMARY KEY (endpoint_id, position),
    CONSTRAINT delivery_has_an_endpoint
    FOREIGN KEY (endpoint_id) REFERENCES shop.webhook_endpoints (id) ON DELETE CASCADE,
    CONSTRAINT delivery_attempts_not_negative CHECK (attempts >= 0),
    CONSTRAINT only_an_ended_delivery_is_dead CHECK (letter_id IS NULL OR ended_at IS NOT NULL)
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 5000);

-- For api.claim_deliveries: what waits in a stream, in order.
CREATE INDEX webhook_deliveries_waiting ON shop.webhook_deliveries (endpoint_id, stream, position)
WHERE ended_at IS NULL;
-- For api.prune_deliveries: what ended long ago.
CREATE INDEX webhook_deliveries_by_end ON shop.webhook_deliveries (ended_at) WHERE ended_at IS NOT NULL;

-- A stream with something waiting. Who has its lease sends, so what is of one order stays in order; due_at is also when
-- the lease ends. The row goes with the last that waits.
CREATE TABLE shop.delivery_streams (
    endpoint_id integer NOT NULL,
    stream text NOT NULL,
    due_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    lease uuid,
    CONSTRAINT delivery_streams_pkey PRIMARY KEY (endpoint_id, stream),
    CONSTRAINT stream_has_an_endpoint
    FOREIGN KEY (endpoint_id) REFERENCES shop.webhook_endpoints (id) ON DELETE CASCADE
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);

-- For api.claim_deliveries: what is due at an endpoint, the oldest first.
CREATE INDEX delivery_streams_by_due ON shop.delivery_streams (endpoint_id, due_at);

-- What happened before there was any endpoint concerns nobody.
INSERT INTO shop.event_consumers (consumer, position)
SELECT 'webhooks' AS consumer, h.position FROM shop.event_head AS h;
