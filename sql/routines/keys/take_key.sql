CREATE OR REPLACE FUNCTION shop.take_key(p_key text, p_kind text, p_body jsonb) RETURNS jsonb
LANGUAGE plpgsql VOLATILE
SET search_path = shop, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
DECLARE
    v_hash bytea := sha256(convert_to(p_kind || p_body::text, 'UTF8'));
    v_known request_keys;
    v_problem text := bad_text(to_jsonb(p_key));
BEGIN
    IF v_problem IS NOT NULL THEN
        RETURN outcome(p_key, 'rejected', NULL, 'OM013', 'key', v_problem);
    END IF;
    INSERT INTO request_keys (key, kind, body_hash) VALUES (p_key, p_kind, v_hash) ON CONFLICT (key) DO NOTHING;
    IF FOUND THEN
        RETURN NULL;
    END IF;
    SELECT * INTO v_known FROM request_keys WHERE key = p_key;
    IF NOT FOUND THEN
        RAISE serialization_failure USING MESSAGE = 'the key was pruned just now; try again';
    END IF;
    RETURN CASE WHEN v_known.body_hash = v_hash THEN v_known.answer ELSE key_conflict(p_key) END;
END
$$;

COMMENT ON FUNCTION shop.take_key(text, text, jsonb) IS
'Takes a key for a command: NULL when it is new and the command must be done now, else the outcome to give back. Waits for a twin in flight.';
