CREATE OR REPLACE FUNCTION shop.decide_key(p_key text, p_status text, p_answer jsonb) RETURNS jsonb
LANGUAGE plpgsql VOLATILE
SET search_path = shop, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
BEGIN
    UPDATE request_keys SET status = p_status, answer = p_answer, decided_at = clock_timestamp()
    WHERE key = p_key AND status = 'pending';
    IF NOT FOUND THEN
        RAISE EXCEPTION 'key % is decided already', p_key USING ERRCODE = 'OM099';
    END IF;
    RETURN p_answer;
END
$$;

COMMENT ON FUNCTION shop.decide_key(text, text, jsonb) IS 'Stores the one answer of a pending key and gives it back.';
