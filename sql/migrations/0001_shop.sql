-- The shop that orders need: catalog, customers, stock by double entry, and the orders themselves.
-- Monthly partitions are made by api.ensure_partitions(); routines, triggers, views and grants are re-applied files.

SET LOCAL lock_timeout = '10s';
SET LOCAL statement_timeout = '10min';

CREATE SCHEMA IF NOT EXISTS shop;
CREATE SCHEMA IF NOT EXISTS api;

CREATE TABLE shop.currencies (
    code text CONSTRAINT currencies_pkey PRIMARY KEY,
    minor_units smallint NOT NULL,
    CONSTRAINT currency_code_is_iso_4217 CHECK (code ~ '^[A-Z]{3}$'),
    CONSTRAINT minor_units_in_range CHECK (minor_units BETWEEN 0 AND 4)
);

CREATE TABLE shop.categories (
    id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT categories_pkey PRIMARY KEY,
    code text NOT NULL CONSTRAINT category_code_is_unique UNIQUE,
    name text NOT NULL,
    parent_id bigint CONSTRAINT category_has_a_known_parent REFERENCES shop.categories (id),
    low_stock_threshold bigint NOT NULL DEFAULT 0,
    CONSTRAINT category_is_not_its_own_parent CHECK (parent_id <> id),
    CONSTRAINT category_threshold_not_negative CHECK (low_stock_threshold >= 0)
);

CREATE TABLE shop.products (
    id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT products_pkey PRIMARY KEY,
    code text NOT NULL CONSTRAINT product_code_is_unique UNIQUE,
    category_id bigint NOT NULL CONSTRAINT product_has_a_category REFERENCES shop.categories (id),
    title text NOT NULL,
    brand text,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE shop.product_variants (
    id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT product_variants_pkey PRIMARY KEY,
    product_id bigint NOT NULL CONSTRAINT variant_has_a_product REFERENCES shop.products (id),
    sku text NOT NULL CONSTRAINT sku_is_unique UNIQUE,
    title text NOT NULL,
    price_amount bigint NOT NULL,
    currency text NOT NULL CONSTRAINT price_has_a_known_currency REFERENCES shop.currencies (code),
    active boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT sku_is_readable CHECK (char_length(sku) BETWEEN 1 AND 200),
    -- With at most 500 lines of 1,000,000 units, a total stays within bigint.
    CONSTRAINT price_in_range CHECK (price_amount BETWEEN 0 AND 10000000000)
);

CREATE TABLE shop.customers (
    id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT customers_pkey PRIMARY KEY,
    number text NOT NULL CONSTRAINT customer_number_is_unique UNIQUE,
    name text,
    email text,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT customer_number_is_readable CHECK (char_length(number) BETWEEN 1 AND 200)
);

CREATE TABLE shop.addresses (
    id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT addresses_pkey PRIMARY KEY,
    customer_id bigint NOT NULL CONSTRAINT address_has_a_customer REFERENCES shop.customers (id),
    code text NOT NULL,
    recipient text NOT NULL,
    street text NOT NULL,
    city text NOT NULL,
    region text,
    postal_code text,
    country text NOT NULL,
    CONSTRAINT address_code_is_unique_per_customer UNIQUE (customer_id, code),
    CONSTRAINT country_is_iso_3166 CHECK (country ~ '^[A-Z]{2}$')
);

CREATE TABLE shop.pools (
    id integer GENERATED ALWAYS AS IDENTITY CONSTRAINT pools_pkey PRIMARY KEY,
    code text NOT NULL CONSTRAINT pool_code_is_unique UNIQUE,
    name text NOT NULL,
    currency text NOT NULL CONSTRAINT pool_has_a_known_currency REFERENCES shop.currencies (code)
);

CREATE TABLE shop.locations (
    id integer GENERATED ALWAYS AS IDENTITY CONSTRAINT locations_pkey PRIMARY KEY,
    code text NOT NULL CONSTRAINT location_code_is_unique UNIQUE,
    name text NOT NULL,
    pool_id integer NOT NULL CONSTRAINT location_is_in_one_pool REFERENCES shop.pools (id),
    priority integer NOT NULL DEFAULT 1,
    CONSTRAINT priority_is_unique_in_its_pool UNIQUE (pool_id, priority),
    CONSTRAINT priority_in_range CHECK (priority BETWEEN 1 AND 100)
);

-- fillfactor: every order updates its levels; with room on the page, and no index on a quantity, each update is HOT.
CREATE TABLE shop.stock_levels (
    variant_id bigint NOT NULL CONSTRAINT level_has_a_variant REFERENCES shop.product_variants (id),
    location_id integer NOT NULL CONSTRAINT level_has_a_location REFERENCES shop.locations (id),
    available bigint NOT NULL DEFAULT 0,
    held bigint NOT NULL DEFAULT 0,
    committed bigint NOT NULL DEFAULT 0,
    unavailable bigint NOT NULL DEFAULT 0,
    incoming bigint NOT NULL DEFAULT 0,
    in_transit bigint NOT NULL DEFAULT 0,
    oversell_cap bigint NOT NULL DEFAULT 0,
    low_stock_threshold bigint,
    CONSTRAINT stock_levels_pkey PRIMARY KEY (variant_id, location_id),
    CONSTRAINT never_oversold CHECK (available >= -oversell_cap),
    CONSTRAINT oversell_cap_in_range CHECK (oversell_cap BETWEEN 0 AND 1000000000),
    CONSTRAINT held_not_negative CHECK (held >= 0),
    CONSTRAINT committed_not_negative CHECK (committed >= 0),
    CONSTRAINT unavailable_not_negative CHECK (unavailable >= 0),
    CONSTRAINT incoming_not_negative CHECK (incoming >= 0),
    CONSTRAINT in_transit_not_negative CHECK (in_transit >= 0),
    CONSTRAINT level_threshold_not_negative CHECK (low_stock_threshold >= 0)
) WITH (fillfactor = 60);

-- Double entry: a movement takes a quantity out of one account and puts it into another. The outside of the shop
-- (supplier, customer, adjustment) has accounts but no place.
CREATE TABLE shop.stock_movements (
    id uuid NOT NULL,
    variant_id bigint NOT NULL,
    from_location_id integer,
    from_account text NOT NULL,
    to_location_id integer,
    to_account text NOT NULL,
    quantity bigint NOT NULL,
    cause text NOT NULL,
    order_id uuid,
    request_key text,
    reason text,
    moved_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT stock_movements_pkey PRIMARY KEY (id),
    CONSTRAINT movement_moves_something CHECK (quantity > 0),
    CONSTRAINT movement_goes_somewhere CHECK (
        (from_account, coalesce(from_location_id, 0)) <> (to_account, coalesce(to_location_id, 0))
    ),
    CONSTRAINT from_account_is_at_its_place CHECK (
        CASE
            WHEN from_account IN ('supplier', 'customer', 'adjustment') THEN from_location_id IS null
            ELSE
                from_account IN ('available', 'held', 'committed', 'unavailable', 'incoming', 'in_transit')
                AND from_location_id IS NOT null
        END
    ),
    CONSTRAINT to_account_is_at_its_place CHECK (
        CASE
            WHEN to_account IN ('supplier', 'customer', 'adjustment') THEN to_location_id IS null
            ELSE
                to_account IN ('available', 'held', 'committed', 'unavailable', 'incoming', 'in_transit')
                AND to_location_id IS NOT null
        END
    )
) PARTITION BY RANGE (id);

-- Unpartitioned, so that a key is unique for as long as it is kept. fillfactor: pending becomes decided on the same page.
CREATE TABLE shop.request_keys (
    key text CONSTRAINT request_keys_pkey PRIMARY KEY,
    kind text NOT NULL,
    body_hash bytea NOT NULL,
    status text NOT NULL DEFAULT 'pending',
    answer jsonb,
    received_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    decided_at timestamptz,
    CONSTRAINT key_is_readable CHECK (char_length(key) BETWEEN 1 AND 200),
    CONSTRAINT key_status_is_known CHECK (status IN ('pending', 'placed', 'held', 'done', 'rejected', 'dead')),
    CONSTRAINT a_decided_key_has_its_answer CHECK ((status = 'pending') = (answer IS null)),
    CONSTRAINT a_decided_key_has_its_time CHECK ((status = 'pending') = (decided_at IS null))
) WITH (fillfactor = 70);

-- For api.prune.
CREATE INDEX request_keys_by_age ON shop.request_keys (received_at);

CREATE TABLE shop.order_queue (
    id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT order_queue_pkey PRIMARY KEY,
    pool_id integer NOT NULL CONSTRAINT queued_order_has_a_pool REFERENCES shop.pools (id),
    key text NOT NULL CONSTRAINT key_is_queued_once UNIQUE,
    customer text NOT NULL,
    pool text NOT NULL,
    currency text,
    ordered_at timestamptz,
    ship_to text,
    skus text[] NOT NULL,
    quantities integer[] NOT NULL,
    claim_id uuid,
    received_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT queued_lines_have_quantities CHECK (cardinality(skus) = cardinality(quantities))
) WITH (fillfactor = 60, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);

-- The order of a pool's queue; claim_id is left out so that claiming is a HOT update.
CREATE INDEX order_queue_by_pool ON shop.order_queue (pool_id, id);

CREATE TABLE shop.claims (
    id uuid CONSTRAINT claims_pkey PRIMARY KEY,
    pool_id integer NOT NULL CONSTRAINT claim_has_a_pool REFERENCES shop.pools (id),
    queue_ids bigint[] NOT NULL,
    attempt integer NOT NULL DEFAULT 1,
    -- NULL: nobody has it; it waits to be tried again.
    leased_until timestamptz,
    CONSTRAINT claim_is_not_empty CHECK (cardinality(queue_ids) > 0),
    CONSTRAINT attempt_in_range CHECK (attempt BETWEEN 1 AND 1000)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);

-- For api.claim_orders: what came back. A fresh claim has a lease and is never in it, so it stays small.
CREATE INDEX claims_that_came_back ON shop.claims (pool_id, (queue_ids[1])) WHERE leased_until IS null;

-- One noun of the language of orders: what a door has validated and a placing routine takes.
CREATE TYPE shop.order_request AS (
    key text, customer text, pool text, currency text, ordered_at timestamptz, ship_to text,
    skus text [], quantities integer []
);
CREATE TYPE shop.problem AS (code text, field text, message text);
CREATE TYPE shop.stock_move AS (
    variant_id bigint, from_location_id integer, from_account text, to_location_id integer, to_account text,
    quantity bigint, cause text, order_id uuid, request_key text, reason text
);
-- The steps of placing hand these to one another.
CREATE TYPE shop.stock_key AS (variant_id bigint, location_id integer);
CREATE TYPE shop.order_head AS (
    ord integer, order_id uuid, key text, customer_id bigint, pool_id integer, pool text, address_id bigint,
    currency text, ordered_at timestamptz, code text, field text, message text
);
CREATE TYPE shop.order_demand AS (
    ord integer, line_no integer, field_no integer, sku text, variant_id bigint, pool_id integer, quantity bigint,
    unit_amount bigint
);
CREATE TYPE shop.order_share AS (
    ord integer, line_no integer, variant_id bigint, location_id integer, quantity bigint, backordered bigint
);
