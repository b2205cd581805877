CREATE OR REPLACE FUNCTION api.submit_orders(p_requests text[]) RETURNS SETOF jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER ROWS 100
SET search_path = shop, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
DECLARE
    v_parsed jsonb[];
    v_request jsonb;
    v_problem problem;
    v_typed order_request[] := '{}';
    v_refused jsonb[];
BEGIN
    p_requests := ARRAY(SELECT t FROM unnest(p_requests) WITH ORDINALITY AS r (t, n) ORDER BY n); -- counted from 1
    -- One subtransaction for all that can be read; one each only when something cannot.
    BEGIN
        v_parsed := p_requests::jsonb[];
    EXCEPTION WHEN data_exception OR statement_too_complex OR program_limit_exceeded THEN
        SELECT array_agg(parse_request(t) ORDER BY n) INTO v_parsed FROM unnest(p_requests) WITH ORDINALITY AS r (t, n);
    END;
    v_refused := array_fill(NULL::jsonb, ARRAY[greatest(coalesce(cardinality(v_parsed), 0), 1)]);
    FOR i IN 1 .. coalesce(cardinality(v_parsed), 0) LOOP
        v_request := v_parsed[i];
        v_problem := check_order(v_request);
        IF v_problem.code IS NULL THEN
            v_typed := v_typed || as_request(v_request);
            IF NOT EXISTS (SELECT FROM pools WHERE code = v_typed[i].pool) THEN
                -- The queue is by pool, so this is said now; in the order in which placing would say it.
                IF EXISTS (SELECT FROM customers WHERE number = v_typed[i].customer) THEN
                    v_problem := ('OM004', 'pool', format('There is no pool %s.', v_typed[i].pool))::problem;
                ELSE
                    v_problem := ('OM003', 'customer', format('There is no customer %s.', v_typed[i].customer))::problem;
                END IF;
            END IF;
        ELSE
            v_typed := v_typed || NULL::order_request;
        END IF;
        IF v_problem.code IS NOT NULL THEN
            v_refused[i] := jsonb_build_object(
                'code', v_problem.code, 'field', v_problem.field, 'message', v_problem.message);
        END IF;
    END LOOP;
    RETURN QUERY SELECT enqueue_orders(v_parsed, v_typed, v_refused);
END
$$;

COMMENT ON FUNCTION api.submit_orders(text[]) IS
'Takes orders into the queue within your own transaction and gives an outcome each, in order: accepted, rejected, or what the key came to before. Up to a few hundred at once is best.';

CREATE OR REPLACE FUNCTION api.submit_orders(p_requests jsonb) RETURNS SETOF jsonb
LANGUAGE sql VOLATILE SECURITY DEFINER ROWS 100
SET search_path = shop, pg_temp
AS $$
    SELECT api.submit_orders(ARRAY(
        SELECT r::text FROM jsonb_array_elements(
            CASE jsonb_typeof(p_requests) WHEN 'array' THEN p_requests ELSE jsonb_build_array(p_requests) END
        ) WITH ORDINALITY AS requests (r, n) ORDER BY n))
$$;

COMMENT ON FUNCTION api.submit_orders(jsonb) IS 'The same for a JSON list of orders.';
