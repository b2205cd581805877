-- Orders and what happens to them. An order's id is a UUIDv7 whose last 16 bits are zero; its lines, allocations and
-- history have the same id with those bits counted up. So an order and its parts are in partitions of the same month,
-- and a primary key range finds them: no index on order_id is needed.

SET LOCAL lock_timeout = '10s';
SET LOCAL statement_timeout = '10min';

CREATE TABLE shop.orders (
    id uuid NOT NULL,
    key text NOT NULL,
    customer_id bigint NOT NULL CONSTRAINT order_has_a_customer REFERENCES shop.customers (id),
    pool_id integer NOT NULL CONSTRAINT order_has_a_pool REFERENCES shop.pools (id),
    address_id bigint CONSTRAINT order_has_a_known_address REFERENCES shop.addresses (id),
    status text NOT NULL,
    status_reason text,
    currency text NOT NULL CONSTRAINT order_has_a_known_currency REFERENCES shop.currencies (code),
    total_amount bigint NOT NULL,
    ordered_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT orders_pkey PRIMARY KEY (id),
    -- The target of order_lines: an amount's currency is its order's.
    CONSTRAINT order_has_one_currency UNIQUE (id, currency),
    CONSTRAINT total_not_negative CHECK (total_amount >= 0)
) PARTITION BY RANGE (id);

CREATE TABLE shop.order_lines (
    id uuid NOT NULL,
    order_id uuid NOT NULL,
    line_no integer NOT NULL,
    variant_id bigint NOT NULL CONSTRAINT line_has_a_variant REFERENCES shop.product_variants (id),
    quantity bigint NOT NULL,
    backordered bigint NOT NULL DEFAULT 0,
    unit_amount bigint NOT NULL,
    total_amount bigint NOT NULL,
    currency text NOT NULL,
    CONSTRAINT order_lines_pkey PRIMARY KEY (id),
    CONSTRAINT line_has_its_order_and_currency FOREIGN KEY (order_id, currency) REFERENCES shop.orders (id, currency),
    CONSTRAINT line_quantity_in_range CHECK (quantity BETWEEN 1 AND 1000000),
    CONSTRAINT backordered_within_quantity CHECK (backordered BETWEEN 0 AND quantity),
    CONSTRAINT line_total_is_price_times_quantity CHECK (total_amount = unit_amount * quantity),
    CONSTRAINT unit_amount_not_negative CHECK (unit_amount >= 0),
    CONSTRAINT line_no_in_range CHECK (line_no BETWEEN 1 AND 500)
) PARTITION BY RANGE (id);

CREATE TABLE shop.order_allocations (
    id uuid NOT NULL,
    order_id uuid NOT NULL,
    line_id uuid NOT NULL,
    variant_id bigint NOT NULL,
    location_id integer NOT NULL,
    quantity bigint NOT NULL,
    state text NOT NULL,
    expires_at timestamptz,
    CONSTRAINT order_allocations_pkey PRIMARY KEY (id),
    CONSTRAINT allocation_is_something CHECK (quantity > 0),
    CONSTRAINT allocation_state_is_known CHECK (state IN ('held', 'committed', 'released', 'fulfilled')),
    CONSTRAINT only_a_hold_expires CHECK ((state = 'held') = (expires_at IS NOT NULL))
) PARTITION BY RANGE (id);

-- For api.expire_holds: only live holds are in it.
CREATE INDEX order_allocations_by_expiry ON shop.order_allocations (expires_at) WHERE state = 'held';

CREATE TABLE shop.allowed_transitions (
    from_status text NOT NULL,
    to_status text NOT NULL,
    CONSTRAINT allowed_transitions_pkey PRIMARY KEY (from_status, to_status),
    CONSTRAINT a_transition_changes_something CHECK (from_status <> to_status)
);

-- 'new' is where every order comes from; no order ever has it.
INSERT INTO shop.allowed_transitions (from_status, to_status) VALUES
('new', 'held'),
('new', 'placed'),
('held', 'placed'),
('held', 'expired'),
('held', 'cancelled'),
('placed', 'in_fulfilment'),
('placed', 'cancelled'),
('in_fulfilment', 'completed');

CREATE TABLE shop.order_status_history (
    id uuid NOT NULL,
    order_id uuid NOT NULL,
    from_status text NOT NULL,
    to_status text NOT NULL,
    reason text,
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT order_status_history_pkey PRIMARY KEY (id),
    CONSTRAINT step_is_allowed FOREIGN KEY (from_status, to_status)
    REFERENCES shop.allowed_transitions (from_status, to_status)
) PARTITION BY RANGE (id);

-- The sequencer reads it in no order and empties it, so its key is its only index.
CREATE TABLE shop.events_inbox (
    id uuid CONSTRAINT events_inbox_pkey PRIMARY KEY,
    stream text NOT NULL,
    kind text NOT NULL,
    payload jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE shop.dead_letters (
    id uuid CONSTRAINT dead_letters_pkey PRIMARY KEY,
    source text NOT NULL,
    key text,
    payload jsonb NOT NULL,
    code text NOT NULL,
    reason text NOT NULL,
    attempts integer NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT dead_letter_source_is_known CHECK (source IN ('sql', 'celery')),
    CONSTRAINT attempts_not_negative CHECK (attempts >= 0)
);

CREATE TABLE shop.job_runs (
    job text NOT NULL,
    slot timestamptz NOT NULL,
    state text NOT NULL DEFAULT 'running',
    attempt integer NOT NULL DEFAULT 1,
    leased_until timestamptz,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at timestamptz,
    result jsonb,
    CONSTRAINT job_runs_pkey PRIMARY KEY (job, slot),
    CONSTRAINT job_state_is_known CHECK (state IN ('running', 'succeeded', 'failed')),
    CONSTRAINT only_a_running_job_is_leased CHECK ((state = 'running') = (leased_until IS NOT NULL)),
    CONSTRAINT a_finished_job_has_its_time CHECK ((state = 'running') = (finished_at IS NULL))
);

INSERT INTO shop.currencies (code, minor_units) VALUES
('AUD', 2), ('BRL', 2), ('CAD', 2), ('CHF', 2), ('CLP', 0), ('CNY', 2), ('CZK', 2), ('DKK', 2), ('EUR', 2),
('GBP', 2), ('HKD', 2), ('HUF', 2), ('INR', 2), ('JPY', 0), ('KRW', 0), ('KWD', 3), ('MXN', 2), ('NOK', 2),
('NZD', 2), ('PLN', 2), ('SEK', 2), ('SGD', 2), ('TND', 3), ('TRY', 2), ('USD', 2), ('ZAR', 2);
