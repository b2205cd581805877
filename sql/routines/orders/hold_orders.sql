CREATE OR REPLACE FUNCTION api.hold_orders(p_requests jsonb, p_hold_for interval DEFAULT interval '15 minutes')
RETURNS SETOF jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER ROWS 100
SET search_path = shop, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
DECLARE
    v_requests jsonb := CASE jsonb_typeof(p_requests) WHEN 'array' THEN p_requests ELSE jsonb_build_array(p_requests) END;
    v_problems problem[];
    v_outcomes jsonb[];
    v_held jsonb[];
    v_good integer := 0;
BEGIN
    IF p_hold_for IS NULL OR p_hold_for NOT BETWEEN interval '1 second' AND interval '30 days' THEN
        RAISE EXCEPTION 'a hold lasts from 1 second to 30 days' USING ERRCODE = 'OM011', COLUMN = 'hold_for';
    END IF;
    SELECT array_agg(check_order(r) ORDER BY n) INTO v_problems
    FROM jsonb_array_elements(v_requests) WITH ORDINALITY AS u (r, n);
    -- Only what has the form takes a key, all in one sorted statement. The caller is here: what has not is told now,
    -- and may come back corrected under the same key.
    v_held := ARRAY(SELECT decide_orders(ARRAY(
        SELECT as_request(r) FROM jsonb_array_elements(v_requests) WITH ORDINALITY AS u (r, n)
        WHERE (v_problems[n]).code IS NULL ORDER BY n), 'order.hold', 'held', clock_timestamp() + p_hold_for,
        ' for ' || extract(epoch FROM p_hold_for)));
    FOR i IN 1 .. jsonb_array_length(v_requests) LOOP
        IF (v_problems[i]).code IS NULL THEN
            v_good := v_good + 1;
            v_outcomes[i] := v_held[v_good];
        ELSE
            v_outcomes[i] := outcome(
                CASE WHEN bad_text(v_requests -> (i - 1) -> 'key') IS NULL THEN v_requests -> (i - 1) ->> 'key' END,
                'rejected', NULL, (v_problems[i]).code, (v_problems[i]).field, (v_problems[i]).message);
        END IF;
    END LOOP;
    RETURN QUERY SELECT o FROM unnest(v_outcomes) WITH ORDINALITY AS u (o, n) ORDER BY n;
END
$$;

COMMENT ON FUNCTION api.hold_orders(jsonb, interval) IS
'Reserves the stock of one order or a list of them for a while, at once and within your own transaction; then api.confirm_order, api.cancel_order, or it expires.';
