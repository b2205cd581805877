CREATE OR REPLACE FUNCTION shop.refuse_order(p_request jsonb, p_kind text, p_problem shop.problem) RETURNS jsonb
LANGUAGE plpgsql VOLATILE
SET search_path = shop, pg_temp
AS $$
DECLARE
    v_key text := CASE WHEN jsonb_typeof(p_request) = 'object' AND bad_text(p_request -> 'key') IS NULL
        THEN p_request ->> 'key' END;
    v_known jsonb;
BEGIN
    -- Without a key that can be stored there is nothing to find the refusal by: the caller has it, and that is all.
    IF v_key IS NULL THEN
        RETURN outcome(NULL, 'rejected', NULL, p_problem.code, p_problem.field, p_problem.message);
    END IF;
    v_known := take_key(v_key, p_kind, p_request - 'key');
    RETURN coalesce(v_known, reject_key(v_key, p_problem.code, p_problem.field, p_problem.message));
END
$$;

COMMENT ON FUNCTION shop.refuse_order(jsonb, text, shop.problem) IS 'Stores under its key why a request cannot be taken, and gives the outcome.';
