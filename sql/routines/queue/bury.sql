CREATE OR REPLACE FUNCTION shop.bury(
    p_request jsonb, p_source text, p_code text, p_reason text, p_attempts integer
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE
SET search_path = shop, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
DECLARE
    v_key text := p_request ->> 'key';
    v_answer jsonb := outcome(v_key, 'dead', NULL, p_code, 'request', p_reason);
    v_known request_keys;
BEGIN
    IF v_key IS NOT NULL THEN
        INSERT INTO request_keys (key, kind, body_hash)
        VALUES (v_key, 'order.place', request_hash('order.place', jsonb_populate_record(NULL::order_request, p_request)))
        ON CONFLICT (key) DO NOTHING;
        SELECT * INTO v_known FROM request_keys WHERE key = v_key FOR UPDATE;
        -- It took effect after all, perhaps by the other door: nothing to bury.
        IF v_known.answer IS NOT NULL THEN
            RETURN v_known.answer;
        END IF;
        PERFORM decide_key(v_key, 'dead', v_answer);
    END IF;
    INSERT INTO dead_letters (id, source, key, payload, code, reason, attempts)
    VALUES (shop.uuid7(), p_source, v_key, p_request, p_code, p_reason, p_attempts);
    RETURN v_answer;
END
$$;

COMMENT ON FUNCTION shop.bury(jsonb, text, text, text, integer) IS
'Makes a request that cannot be done a dead letter, with its payload and reason, and that its outcome; gives the outcome it had before, if any.';
