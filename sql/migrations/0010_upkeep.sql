-- Policies of retention and what upkeep found.

SET LOCAL lock_timeout = '10s';
SET LOCAL statement_timeout = '10min';

-- How long rows are kept. Request keys and settled letters go by ORDERMILL_KEYS_KEPT_DAYS: that is promised to callers.
CREATE TABLE shop.retention_policies (
    kind text CONSTRAINT retention_policies_pkey PRIMARY KEY,
    keep interval NOT NULL,
    CONSTRAINT kept_for_a_day_at_least CHECK (keep >= interval '1 day'),
    -- With the month that runs, one that is being retired and six ahead: at most 24 partitions are attached.
    CONSTRAINT months_kept_leave_room_ahead CHECK (
        kind <> 'partitions' OR keep BETWEEN interval '3 months' AND interval '16 months'
    )
);
INSERT INTO shop.retention_policies (kind, keep) VALUES
('partitions', interval '16 months'),
('job_runs', interval '7 days'),
('message_attempts', interval '7 days'),
('table_sizes', interval '90 days');

-- A month whose partitions are being retired (finished_at NULL) or are. `verify` starts behind the last of them: below
-- that, what stock was moved is in opening_balances, and which events there were ends at events_through.
CREATE TABLE shop.retirements (
    month date CONSTRAINT retirements_pkey PRIMARY KEY,
    events_through bigint NOT NULL,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at timestamptz,
    CONSTRAINT retired_by_whole_months CHECK (extract(DAY FROM month) = 1),
    CONSTRAINT events_through_not_negative CHECK (events_through >= 0)
);

-- The sum of all retired movements. A part may be negative: an order that was placed in a retired month may have been
-- fulfilled in one that is not.
CREATE TABLE shop.opening_balances (
    variant_id bigint NOT NULL CONSTRAINT balance_has_a_variant REFERENCES shop.product_variants (id),
    location_id integer NOT NULL CONSTRAINT balance_has_a_location REFERENCES shop.locations (id),
    available bigint NOT NULL,
    held bigint NOT NULL,
    committed bigint NOT NULL,
    unavailable bigint NOT NULL,
    incoming bigint NOT NULL,
    in_transit bigint NOT NULL,
    CONSTRAINT opening_balances_pkey PRIMARY KEY (variant_id, location_id)
);

CREATE TABLE shop.archives (
    table_name text NOT NULL,
    month date NOT NULL CONSTRAINT archive_is_of_a_retired_month REFERENCES shop.retirements (month),
    file text NOT NULL,
    rows bigint NOT NULL,
    digest numeric NOT NULL,
    sha256 text NOT NULL,
    bytes bigint NOT NULL,
    archived_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    dropped_at timestamptz,
    CONSTRAINT archives_pkey PRIMARY KEY (table_name, month),
    CONSTRAINT sha256_is_hex CHECK (sha256 ~ '^[0-9a-f]{64}$'),
    CONSTRAINT archived_rows_not_negative CHECK (rows >= 0)
);

CREATE TABLE shop.upkeep_findings (
    report text NOT NULL,
    object text NOT NULL,
    severity text NOT NULL,
    detail jsonb NOT NULL,
    first_found_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    found_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT upkeep_findings_pkey PRIMARY KEY (report, object),
    CONSTRAINT severity_is_known CHECK (severity IN ('note', 'warning'))
);

-- One row a table and day, so that growth can be seen.
CREATE TABLE shop.table_sizes (
    table_name text NOT NULL,
    day date NOT NULL,
    bytes bigint NOT NULL,
    CONSTRAINT table_sizes_pkey PRIMARY KEY (table_name, day)
);

-- Where archives are restored for a look.
CREATE SCHEMA IF NOT EXISTS restored;
