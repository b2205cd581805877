CREATE OR REPLACE FUNCTION api.check_request(p_request text, p_key text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = shop, pg_temp
AS $$
DECLARE
    v_request jsonb := parse_request(p_request);
    v_problem problem;
BEGIN
    IF jsonb_typeof(v_request) = 'object' AND coalesce(v_request -> 'key', 'null') = 'null' THEN
        v_request := v_request || jsonb_build_object('key', p_key);
    END IF;
    v_problem := check_order(v_request);
    IF v_problem.code IS NULL THEN
        RETURN jsonb_build_object('request', to_jsonb(as_request(v_request)));
    END IF;
    IF jsonb_typeof(v_request) IS DISTINCT FROM 'object' OR bad_text(v_request -> 'key') IS NOT NULL THEN
        -- Its message can still be found by the task's id.
        v_request := jsonb_build_object('key', p_key, 'request', v_request);
    END IF;
    RETURN refuse_order(v_request, 'order.place', v_problem);
END
$$;

COMMENT ON FUNCTION api.check_request(text, text) IS
'For the Celery door, when a message does not have an order''s form: {"request": typed values} when there is nothing wrong after all, else the stored rejection.';
