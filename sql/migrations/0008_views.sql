-- Materialized views and how fresh they are kept.
-- The indexes are of views that are made here, so nobody waits for them.
-- squawk-ignore-file require-concurrent-index-creation

SET LOCAL lock_timeout = '10s';
SET LOCAL statement_timeout = '10min';

-- How fresh each view is kept: the one place where that is set, by api.set_view_freshness.
CREATE TABLE shop.view_freshness (
    view text CONSTRAINT view_freshness_pkey PRIMARY KEY,
    turn smallint NOT NULL CONSTRAINT views_have_different_turns UNIQUE,
    built_from text CONSTRAINT view_is_built_from_a_known_one REFERENCES shop.view_freshness (view),
    max_staleness interval NOT NULL,
    deadline interval NOT NULL,
    -- NULL: all that the shop holds.
    history interval,
    enabled boolean NOT NULL DEFAULT TRUE,
    CONSTRAINT freshness_in_range CHECK (max_staleness BETWEEN interval '1 second' AND interval '366 days'),
    -- The longest is what a job's process may take by ORDERMILL_JOB_STATEMENT_TIMEOUT_MS and Celery's time limit.
    CONSTRAINT deadline_in_range CHECK (deadline BETWEEN interval '10 milliseconds' AND interval '10 minutes'),
    CONSTRAINT history_in_range CHECK (history BETWEEN interval '1 day' AND interval '50 years'),
    CONSTRAINT view_is_not_built_from_itself CHECK (built_from <> view)
);

-- What the data of each view is of. A view reads its window here: its row is written just before it is refreshed, in
-- the same transaction. So a view that never was refreshed has no window and is empty, and this migration takes no
-- longer on a big shop.
CREATE TABLE shop.view_states (
    view text CONSTRAINT view_states_pkey PRIMARY KEY,
    refreshed_at timestamptz,
    from_at timestamptz,
    from_id uuid,
    evidence text,
    failures integer NOT NULL DEFAULT 0,
    retry_at timestamptz,
    CONSTRAINT state_is_of_a_known_view FOREIGN KEY (view) REFERENCES shop.view_freshness (view),
    CONSTRAINT failures_not_negative CHECK (failures >= 0),
    CONSTRAINT only_a_failure_is_retried CHECK ((failures > 0) = (retry_at IS NOT NULL)),
    CONSTRAINT data_has_its_window CHECK (
        (refreshed_at IS NULL) = (from_at IS NULL) AND (refreshed_at IS NULL) = (from_id IS NULL)
    )
) WITH (fillfactor = 20);

CREATE TABLE shop.view_refreshes (
    id uuid CONSTRAINT view_refreshes_pkey PRIMARY KEY,
    view text NOT NULL CONSTRAINT refresh_is_of_a_known_view REFERENCES shop.view_freshness (view),
    started_at timestamptz NOT NULL,
    ms integer NOT NULL,
    rows bigint,
    -- NULL: it was the first.
    staleness_before interval,
    error text,
    CONSTRAINT refresh_took_time CHECK (ms >= 0),
    CONSTRAINT a_refresh_has_rows_or_an_error CHECK ((rows IS NULL) = (error IS NOT NULL))
);

-- For api.view_freshness: the last refresh of a view.
CREATE INDEX view_refreshes_by_view ON shop.view_refreshes (view, id);

-- Sales are by the time at which the customer ordered (ordered_at, in UTC). An order counts once it is placed; one on
-- hold or expired is no sale. Sums of money are numeric: no order is so large that it stops the view.
CREATE MATERIALIZED VIEW shop.sales_by_day AS
WITH span AS (
    SELECT s.from_id, s.from_at FROM shop.view_states AS s
    WHERE s.view = 'sales_by_day'
),

taken AS (
    SELECT o.id, (o.ordered_at AT TIME ZONE 'UTC')::date AS day, o.pool_id, o.currency, o.status, o.total_amount
    FROM shop.orders AS o
    WHERE
        o.id >= (SELECT w.from_id FROM span AS w)
        AND o.ordered_at >= (SELECT w.from_at FROM span AS w)
        AND o.status IN ('placed', 'in_fulfilment', 'completed', 'cancelled')
),

amounts AS (
    SELECT
        t.day, t.pool_id, t.currency, count(*) FILTER (WHERE t.status <> 'cancelled') AS orders,
        coalesce(sum(t.total_amount) FILTER (WHERE t.status <> 'cancelled'), 0) AS revenue,
        count(*) FILTER (WHERE t.status = 'cancelled') AS cancelled,
        coalesce(sum(t.total_amount) FILTER (WHERE t.status = 'cancelled'), 0) AS cancelled_amount
    FROM taken AS t
    GROUP BY t.day, t.pool_id, t.currency
),

quantities AS (
    SELECT t.day, t.pool_id, t.currency, sum(l.quantity)::bigint AS units
    FROM taken AS t
    JOIN shop.order_lines AS l ON l.order_id = t.id
    WHERE
        t.status <> 'cancelled'
        AND l.id >= (SELECT w.from_id FROM span AS w)
    GROUP BY t.day, t.pool_id, t.currency
)

SELECT
    a.day, a.pool_id, a.currency, a.orders, coalesce(q.units, 0) AS units, a.revenue, a.cancelled, a.cancelled_amount
FROM amounts AS a
LEFT JOIN quantities AS q ON q.day = a.day AND q.pool_id = a.pool_id AND q.currency = a.currency;

-- Each view has one, over whole rows: REFRESH … CONCURRENTLY finds by it what changed.
CREATE UNIQUE INDEX sales_by_day_once ON shop.sales_by_day (day, pool_id, currency);

-- Months are sums of days.
CREATE MATERIALIZED VIEW shop.sales_by_month AS
SELECT
    date_trunc('month', d.day::timestamp)::date AS month, d.pool_id, d.currency, sum(d.orders)::bigint AS orders,
    sum(d.units)::bigint AS units, sum(d.revenue) AS revenue, sum(d.cancelled)::bigint AS cancelled,
    sum(d.cancelled_amount) AS cancelled_amount
FROM shop.sales_by_day AS d
GROUP BY date_trunc('month', d.day::timestamp)::date, d.pool_id, d.currency;

CREATE UNIQUE INDEX sales_by_month_once ON shop.sales_by_month (month, pool_id, currency);

-- Days are not sums of hours: those reach back only as far as one looks at hours.
CREATE MATERIALIZED VIEW shop.sales_by_hour AS
WITH span AS (
    SELECT s.from_id, s.from_at FROM shop.view_states AS s
    WHERE s.view = 'sales_by_hour'
),

taken AS (
    SELECT o.id, date_trunc('hour', o.ordered_at, 'UTC') AS hour, o.pool_id, o.currency, o.status, o.total_amount
    FROM shop.orders AS o
    WHERE
        o.id >= (SELECT w.from_id FROM span AS w)
        AND o.ordered_at >= (SELECT w.from_at FROM span AS w)
        AND o.status IN ('placed', 'in_fulfilment', 'completed', 'cancelled')
),

amounts AS (
    SELECT
        t.hour, t.pool_id, t.currency, count(*) FILTER (WHERE t.status <> 'cancelled') AS orders,
        coalesce(sum(t.total_amount) FILTER (WHERE t.status <> 'cancelled'), 0) AS revenue,
        count(*) FILTER (WHERE t.status = 'cancelled') AS cancelled,
        coalesce(sum(t.total_amount) FILTER (WHERE t.status = 'cancelled'), 0) AS cancelled_amount
    FROM taken AS t
    GROUP BY t.hour, t.pool_id, t.currency
),

quantities AS (
    SELECT t.hour, t.pool_id, t.currency, sum(l.quantity)::bigint AS units
    FROM taken AS t
    JOIN shop.order_lines AS l ON l.order_id = t.id
    WHERE
        t.status <> 'cancelled'
        AND l.id >= (SELECT w.from_id FROM span AS w)
    GROUP BY t.hour, t.pool_id, t.currency
)

SELECT
    a.hour, a.pool_id, a.currency, a.orders, coalesce(q.units, 0) AS units, a.revenue, a.cancelled, a.cancelled_amount
FROM amounts AS a
LEFT JOIN quantities AS q ON q.hour = a.hour AND q.pool_id = a.pool_id AND q.currency = a.currency;

CREATE UNIQUE INDEX sales_by_hour_once ON shop.sales_by_hour (hour, pool_id, currency);

-- Products, customers and stock are by when the shop took the order (its id), which is when stock went. An order has
-- one line a variant, so lines are orders.
CREATE MATERIALIZED VIEW shop.product_performance AS
WITH span AS (
    SELECT s.from_id FROM shop.view_states AS s
    WHERE s.view = 'product_performance'
)

SELECT
    l.variant_id, l.currency, count(*) FILTER (WHERE o.status <> 'cancelled') AS orders,
    coalesce(sum(l.quantity) FILTER (WHERE o.status <> 'cancelled'), 0)::bigint AS units,
    coalesce(sum(l.total_amount) FILTER (WHERE o.status <> 'cancelled'), 0) AS revenue,
    coalesce(sum(l.backordered) FILTER (WHERE o.status <> 'cancelled'), 0)::bigint AS backordered,
    coalesce(sum(l.quantity) FILTER (WHERE o.status = 'cancelled'), 0)::bigint AS cancelled_units,
    max(o.created_at) FILTER (WHERE o.status <> 'cancelled') AS last_sold_at
FROM shop.order_lines AS l
JOIN shop.orders AS o ON o.id = l.order_id
WHERE
    o.id >= (SELECT w.from_id FROM span AS w)
    AND l.id >= (SELECT w.from_id FROM span AS w)
    AND o.status IN ('placed', 'in_fulfilment', 'completed', 'cancelled')
GROUP BY l.variant_id, l.currency;

CREATE UNIQUE INDEX product_performance_once ON shop.product_performance (variant_id, currency);

-- A category's sums are of its own products; the totals also of all categories below it. UNION, so that a ring of
-- parents ends.
CREATE MATERIALIZED VIEW shop.category_performance AS
WITH RECURSIVE below AS (
    SELECT c.id AS category_id, c.id AS descendant_id FROM shop.categories AS c
    UNION
    SELECT b.category_id, c.id FROM below AS b JOIN shop.categories AS c ON c.parent_id = b.descendant_id
),

own AS (
    SELECT
        r.category_id, p.currency, count(*) AS variants_sold, sum(p.units)::bigint AS units, sum(p.revenue) AS revenue,
        sum(p.cancelled_units)::bigint AS cancelled_units, max(p.last_sold_at) AS last_sold_at
    FROM shop.product_performance AS p
    JOIN shop.product_variants AS v ON v.id = p.variant_id
    JOIN shop.products AS r ON r.id = v.product_id
    GROUP BY r.category_id, p.currency
)

SELECT
    b.category_id, o.currency,
    coalesce(sum(o.units) FILTER (WHERE o.category_id = b.category_id), 0)::bigint AS own_units,
    coalesce(sum(o.revenue) FILTER (WHERE o.category_id = b.category_id), 0) AS own_revenue,
    sum(o.variants_sold)::bigint AS variants_sold, sum(o.units)::bigint AS units, sum(o.revenue) AS revenue,
    sum(o.cancelled_units)::bigint AS cancelled_units, max(o.last_sold_at) AS last_sold_at
FROM below AS b
JOIN own AS o ON o.category_id = b.descendant_id
GROUP BY b.category_id, o.currency;

CREATE UNIQUE INDEX category_performance_once ON shop.category_performance (category_id, currency);

-- Recency, frequency and monetary value, scored in fifths of those who buy in the same currency, 5 the best.
CREATE MATERIALIZED VIEW shop.customer_patterns AS
WITH span AS (
    SELECT s.from_id FROM shop.view_states AS s
    WHERE s.view = 'customer_patterns'
),

taken AS (
    SELECT o.id, o.customer_id, o.currency, o.status, o.total_amount, o.ordered_at
    FROM shop.orders AS o
    WHERE
        o.id >= (SELECT w.from_id FROM span AS w)
        AND o.status IN ('placed', 'in_fulfilment', 'completed', 'cancelled')
),

buyers AS (
    SELECT
        t.customer_id, t.currency, count(*) FILTER (WHERE t.status <> 'cancelled') AS orders,
        count(*) FILTER (WHERE t.status = 'cancelled') AS cancelled,
        coalesce(sum(t.total_amount) FILTER (WHERE t.status <> 'cancelled'), 0) AS revenue,
        min(t.ordered_at) FILTER (WHERE t.status <> 'cancelled') AS first_order_at,
        max(t.ordered_at) FILTER (WHERE t.status <> 'cancelled') AS last_order_at
    FROM taken AS t
    GROUP BY t.customer_id, t.currency
),

tastes AS (
    SELECT
        t.customer_id, t.currency, r.category_id, sum(l.quantity)::bigint AS units, count(*) AS lines,
        sum(l.total_amount) AS spent
    FROM taken AS t
    JOIN shop.order_lines AS l ON l.order_id = t.id
    JOIN shop.product_variants AS v ON v.id = l.variant_id
    JOIN shop.products AS r ON r.id = v.product_id
    WHERE
        t.status <> 'cancelled'
        AND l.id >= (SELECT w.from_id FROM span AS w)
    GROUP BY t.customer_id, t.currency, r.category_id
),

baskets AS (
    SELECT
        t.customer_id, t.currency, sum(t.units)::bigint AS units, sum(t.lines)::bigint AS lines,
        (array_agg(t.category_id ORDER BY t.spent DESC, t.category_id ASC))[1] AS favourite_category_id
    FROM tastes AS t
    GROUP BY t.customer_id, t.currency
)

SELECT
    b.customer_id, b.currency, b.orders, b.cancelled, b.revenue, k.units, k.lines, b.first_order_at, b.last_order_at,
    k.favourite_category_id,
    ntile(5) OVER (PARTITION BY b.currency ORDER BY b.last_order_at, b.customer_id) AS recency_score,
    ntile(5) OVER (PARTITION BY b.currency ORDER BY b.orders, b.customer_id) AS frequency_score,
    ntile(5) OVER (PARTITION BY b.currency ORDER BY b.revenue, b.customer_id) AS monetary_score
FROM buyers AS b
JOIN baskets AS k ON k.customer_id = b.customer_id AND k.currency = b.currency;

CREATE UNIQUE INDEX customer_patterns_once ON shop.customer_patterns (customer_id, currency);

CREATE MATERIALIZED VIEW shop.inventory_metrics AS
WITH span AS (
    SELECT s.from_id FROM shop.view_states AS s
    WHERE s.view = 'inventory_metrics' AND s.from_id IS NOT NULL
),

sold AS (
    SELECT a.variant_id, a.location_id, sum(a.quantity)::bigint AS units
    FROM shop.order_allocations AS a
    WHERE
        a.id >= (SELECT w.from_id FROM span AS w)
        AND a.state IN ('committed', 'fulfilled')
    GROUP BY a.variant_id, a.location_id
)

SELECT
    l.variant_id, l.location_id, l.available, l.held, l.committed, l.unavailable, l.incoming, l.in_transit,
    coalesce(l.low_stock_threshold, c.low_stock_threshold) AS low_stock_threshold, coalesce(d.units, 0) AS units_sold
FROM shop.stock_levels AS l
CROSS JOIN span
JOIN shop.product_variants AS v ON v.id = l.variant_id
JOIN shop.products AS r ON r.id = v.product_id
JOIN shop.categories AS c ON c.id = r.category_id
LEFT JOIN sold AS d ON d.variant_id = l.variant_id AND d.location_id = l.location_id;

CREATE UNIQUE INDEX inventory_metrics_once ON shop.inventory_metrics (variant_id, location_id);

INSERT INTO shop.view_freshness (view, turn, built_from, max_staleness, deadline, history) VALUES
('sales_by_day', 1, NULL, '15 minutes', '5 minutes', NULL),
('sales_by_month', 2, 'sales_by_day', '15 minutes', '1 minute', NULL),
('sales_by_hour', 3, NULL, '5 minutes', '1 minute', '35 days'),
('product_performance', 4, NULL, '15 minutes', '2 minutes', '90 days'),
('category_performance', 5, 'product_performance', '15 minutes', '1 minute', NULL),
('inventory_metrics', 6, NULL, '5 minutes', '1 minute', '30 days'),
('customer_patterns', 7, NULL, '6 hours', '10 minutes', NULL);
INSERT INTO shop.view_states (view) SELECT f.view FROM shop.view_freshness AS f;
