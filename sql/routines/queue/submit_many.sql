CREATE OR REPLACE FUNCTION shop.submit_many(p_parsed jsonb[]) RETURNS jsonb[]
LANGUAGE plpgsql VOLATILE
SET search_path = shop, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
DECLARE
    v_count integer := coalesce(cardinality(p_parsed), 0);
    v_problem problem;
    v_one order_request;
    v_typed order_request[] := '{}';
    v_refused jsonb[] := array_fill(NULL::jsonb, ARRAY[greatest(v_count, 1)]);
    v_pool text;
    v_pool_id integer;
    v_max_wait interval;
    v_busy text;
    v_away jsonb[]; -- outcomes of those that a busy pool turns away
BEGIN
    FOR i IN 1 .. v_count LOOP
        v_problem := check_order(p_parsed[i]);
        v_one := NULL;
        IF v_problem.code IS NULL THEN
            v_one := as_request(p_parsed[i]);
            IF v_one.pool IS DISTINCT FROM v_pool THEN
                -- The queue is by pool, so this is said now; in the order in which placing would say it.
                SELECT id, max_wait INTO v_pool_id, v_max_wait FROM pools WHERE code = v_one.pool;
                IF FOUND THEN
                    v_pool := v_one.pool;
                    v_busy := CASE WHEN v_max_wait IS NOT NULL THEN why_busy(v_pool_id, v_pool, v_max_wait) END;
                ELSIF EXISTS (SELECT FROM customers WHERE number = v_one.customer) THEN
                    v_problem := ('OM004', 'pool', format('There is no pool %s.', v_one.pool))::problem;
                ELSE
                    v_problem := ('OM003', 'customer', format('There is no customer %s.', v_one.customer))::problem;
                END IF;
            END IF;
            IF v_busy IS NOT NULL AND v_problem.code IS NULL THEN
                IF NOT EXISTS (SELECT FROM request_keys WHERE key = v_one.key) THEN
                    v_away := coalesce(v_away, array_fill(NULL::jsonb, ARRAY[v_count]));
                    v_away[i] := outcome(v_one.key, 'refused', NULL, 'OM025', 'pool', v_busy);
                END IF;
            END IF;
        END IF;
        v_typed := v_typed || v_one;
        IF v_problem.code IS NOT NULL THEN
            v_refused[i] := jsonb_build_object(
                'code', v_problem.code, 'field', v_problem.field, 'message', v_problem.message);
        END IF;
    END LOOP;
    IF v_away IS NULL THEN
        RETURN enqueue_orders(p_parsed, v_typed, v_refused);
    ELSIF array_position(v_away, NULL) IS NULL THEN
        RETURN v_away;
    END IF;
    -- Nothing is stored for what is turned away; the others are taken as if they had come alone.
    RETURN (
        WITH given AS (
            SELECT * FROM ROWS FROM (unnest(p_parsed), unnest(v_refused), unnest(v_away), unnest(v_typed)) WITH ORDINALITY AS u (
                parsed, refused, away, key, customer, pool, currency, ordered_at, ship_to, skus, quantities, n)
        ), taken AS (
            SELECT o.outcome, o.nth FROM unnest((
                SELECT enqueue_orders(
                    array_agg(g.parsed ORDER BY g.n),
                    array_agg(ROW(g.key, g.customer, g.pool, g.currency, g.ordered_at, g.ship_to, g.skus, g.quantities)
                        ::order_request ORDER BY g.n),
                    array_agg(g.refused ORDER BY g.n))
                FROM given AS g WHERE g.away IS NULL)) WITH ORDINALITY AS o (outcome, nth)
        ), numbered AS (
            SELECT g.away, g.n, count(*) FILTER (WHERE g.away IS NULL) OVER (ORDER BY g.n) AS nth FROM given AS g
        )
        SELECT array_agg(coalesce(m.away, t.outcome) ORDER BY m.n) FROM numbered AS m LEFT JOIN taken AS t ON t.nth = m.nth);
END
$$;

COMMENT ON FUNCTION shop.submit_many(jsonb[]) IS 'Checks orders and takes them into the queue: an outcome each, in order.';
