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
BEGIN
    FOR i IN 1 .. v_count LOOP
        v_problem := check_order(p_parsed[i]);
        v_one := NULL;
        IF v_problem.code IS NULL THEN
            v_one := as_request(p_parsed[i]);
            IF v_one.pool IS DISTINCT FROM v_pool THEN
                -- The queue is by pool, so this is said now; in the order in which placing would say it.
                IF EXISTS (SELECT FROM pools WHERE code = v_one.pool) THEN
                    v_pool := v_one.pool;
                ELSIF EXISTS (SELECT FROM customers WHERE number = v_one.customer) THEN
                    v_problem := ('OM004', 'pool', format('There is no pool %s.', v_one.pool))::problem;
                ELSE
                    v_problem := ('OM003', 'customer', format('There is no customer %s.', v_one.customer))::problem;
                END IF;
            END IF;
        END IF;
        v_typed := v_typed || v_one;
        IF v_problem.code IS NOT NULL THEN
            v_refused[i] := jsonb_build_object(
                'code', v_problem.code, 'field', v_problem.field, 'message', v_problem.message);
        END IF;
    END LOOP;
    RETURN enqueue_orders(p_parsed, v_typed, v_refused);
END
$$;

COMMENT ON FUNCTION shop.submit_many(jsonb[]) IS 'Checks orders and takes them into the queue: an outcome each, in order.';
