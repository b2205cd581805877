CREATE OR REPLACE FUNCTION shop.resolve_heads(
    p_requests shop.order_request[], p_known jsonb[]
) RETURNS shop.order_head[]
LANGUAGE plpgsql STABLE
SET search_path = shop, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
BEGIN
    RETURN (
        -- One problem an order, the first in the order in which a person would read the request.
        WITH heads AS (
            SELECT r.n, r.key, c.id AS customer_id, p.id AS pool_id, r.pool, a.id AS address_id,
                coalesce(r.currency, p.currency) AS currency, coalesce(r.ordered_at, now()) AS ordered_at,
                CASE
                    WHEN c.id IS NULL THEN ROW('OM003', 'customer', format('There is no customer %s.', r.customer))::problem
                    WHEN p.id IS NULL THEN ROW('OM004', 'pool', format('There is no pool %s.', r.pool))::problem
                    WHEN r.currency IS NOT NULL AND u.code IS NULL
                        THEN ROW('OM005', 'currency', format('%s is no currency known here.', r.currency))::problem
                    WHEN r.ordered_at NOT BETWEEN '1970-01-01 00:00Z' AND now() + interval '1 day' THEN ROW('OM019', 'ordered_at',
                        'An order is from 1970 or later and not from the future; give a time up to now.')::problem
                    WHEN r.ship_to IS NOT NULL AND a.id IS NULL THEN ROW('OM018', 'ship_to',
                        format('Customer %s has no address %s.', r.customer, r.ship_to))::problem
                    -- The doors have checked it; whoever calls the routine has not.
                    WHEN coalesce(cardinality(r.skus), 0) = 0
                        THEN ROW('OM008', 'lines', 'Give at least one line with a sku and a quantity.')::problem
                    WHEN cardinality(r.quantities) IS DISTINCT FROM cardinality(r.skus)
                        THEN ROW('OM008', 'lines', 'Give as many quantities as skus.')::problem
                    WHEN (1 <= ALL(r.quantities)) IS NOT TRUE
                        THEN ROW('OM007', 'lines', 'Give a whole number from 1 to 1000000 for each line.')::problem
                END AS problem
            FROM unnest(p_requests) WITH ORDINALITY AS r (
                key, customer, pool, currency, ordered_at, ship_to, skus, quantities, n)
            LEFT JOIN customers AS c ON c.number = r.customer
            LEFT JOIN pools AS p ON p.code = r.pool
            LEFT JOIN currencies AS u ON u.code = r.currency
            LEFT JOIN addresses AS a ON a.customer_id = c.id AND a.code = r.ship_to
            WHERE p_known[r.n] IS NULL
        )
        SELECT coalesce(array_agg(ROW(n, shop.new_order_id(), key, customer_id, pool_id, pool, address_id, currency, ordered_at,
            (problem).code, (problem).field, (problem).message)::order_head ORDER BY n), '{}')
        FROM heads);
END
$$;

COMMENT ON FUNCTION shop.resolve_heads(shop.order_request[], jsonb[]) IS
'Whom, from where and in what currency the orders to be decided are, each with its new id or the first name in it that does not exist.';
