CREATE OR REPLACE FUNCTION shop.submit_one(p_request jsonb) RETURNS jsonb
LANGUAGE plpgsql VOLATILE
SET search_path = shop, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
DECLARE
    v_problem problem := check_order(p_request);
    v_typed order_request;
    v_pool integer;
    v_max_wait interval;
    v_busy text;
BEGIN
    IF v_problem.code IS NULL THEN
        v_typed := as_request(p_request);
        SELECT id, max_wait INTO v_pool, v_max_wait FROM pools WHERE code = v_typed.pool;
        IF FOUND THEN
            IF v_max_wait IS NOT NULL THEN
                v_busy := why_busy(v_pool, v_typed.pool, v_max_wait);
                IF v_busy IS NOT NULL THEN
                    IF NOT EXISTS (SELECT FROM request_keys WHERE key = v_typed.key) THEN
                        RETURN outcome(v_typed.key, 'refused', NULL, 'OM025', 'pool', v_busy);
                    END IF;
                END IF;
            END IF;
            INSERT INTO request_keys (key, kind, body_hash)
            VALUES (v_typed.key, 'order.place', request_hash('order.place', v_typed)) ON CONFLICT (key) DO NOTHING;
            IF FOUND THEN
                INSERT INTO order_queue (pool_id, key, customer, pool, currency, ordered_at, ship_to, skus, quantities)
                VALUES (v_pool, v_typed.key, v_typed.customer, v_typed.pool, v_typed.currency, v_typed.ordered_at,
                    v_typed.ship_to, v_typed.skus, v_typed.quantities);
                RETURN outcome(v_typed.key, 'accepted', NULL, NULL, NULL, NULL);
            END IF;
        END IF;
    END IF;
    -- A refusal, or a key that was there before: said where it is said for many.
    RETURN (submit_many(ARRAY[p_request]))[1];
END
$$;

COMMENT ON FUNCTION shop.submit_one(jsonb) IS 'The same as shop.submit_many for one order, by a shorter way when it is new and can be used.';
