CREATE OR REPLACE FUNCTION shop.bury(
    p_request jsonb, p_source text, p_code text, p_reason text, p_attempts integer
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE
SET search_path = shop, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
DECLARE
    v_key text := p_request ->> 'key';
    v_hash bytea := request_hash('order.place', jsonb_populate_record(NULL::order_request, p_request));
    v_letter uuid := shop.uuid7();
    v_known request_keys;
BEGIN
    IF v_key IS NOT NULL THEN
        INSERT INTO request_keys (key, kind, body_hash) VALUES (v_key, 'order.place', v_hash) ON CONFLICT (key) DO NOTHING;
        SELECT * INTO v_known FROM request_keys WHERE key = v_key FOR UPDATE;
        IF NOT FOUND THEN
            RAISE serialization_failure USING MESSAGE = 'the key was pruned just now; try again';
        ELSIF v_known.body_hash <> v_hash THEN
            RETURN key_conflict(v_key);
        ELSIF v_known.answer IS NOT NULL THEN
            -- It took effect after all, perhaps by the other door: nothing to bury.
            RETURN v_known.answer;
        END IF;
        PERFORM decide_key(v_key, 'dead', outcome(v_key, 'dead', NULL, p_code, 'request',
            format('This order could not be placed; the reason is in dead letter %s.', v_letter)));
    END IF;
    INSERT INTO dead_letters (id, source, key, payload, code, reason, attempts)
    VALUES (v_letter, p_source, v_key, p_request, p_code, p_reason, p_attempts);
    RETURN (SELECT answer FROM request_keys WHERE key = v_key);
END
$$;

COMMENT ON FUNCTION shop.bury(jsonb, text, text, text, integer) IS
'Makes a request that cannot be done a dead letter, with its payload and reason, and that its outcome; gives the outcome it had before, if any.';
