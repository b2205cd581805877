CREATE OR REPLACE FUNCTION shop.handle_alert(p_alert_id bigint, p_state text, p_waits_since timestamptz, p_by text)
RETURNS jsonb
LANGUAGE plpgsql VOLATILE
SET search_path = shop, pg_temp
AS $$
DECLARE
    v_state text;
    v_problem text := bad_text(to_jsonb(p_by));
BEGIN
    IF p_by IS NOT NULL AND v_problem IS NOT NULL THEN
        RAISE EXCEPTION 'who does this: %', v_problem USING ERRCODE = 'OM013';
    END IF;
    SELECT state INTO v_state FROM alerts WHERE id = p_alert_id FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no alert %', coalesce(p_alert_id::text, 'without a number') USING ERRCODE = 'OM030',
            HINT = 'SELECT id FROM api.alerts lists them.';
    ELSIF v_state = 'resolved' AND p_state <> 'resolved' THEN
        RAISE EXCEPTION 'alert % is resolved already', p_alert_id USING ERRCODE = 'OM031';
    ELSIF v_state <> p_state OR p_state = 'snoozed' THEN
        UPDATE alerts SET state = p_state, waits_since = p_waits_since, handled_by = p_by,
            resolved_at = CASE p_state WHEN 'resolved' THEN clock_timestamp() END
        WHERE id = p_alert_id;
        PERFORM tell_alerts('alert.' || p_state, ARRAY[p_alert_id], p_by => p_by);
    END IF;
    RETURN (SELECT to_jsonb(a) FROM api.alerts AS a WHERE a.id = p_alert_id);
END
$$;

COMMENT ON FUNCTION shop.handle_alert(bigint, text, timestamptz, text) IS
'What a person does with an alert: the new state, with its event; nothing where it has that state. Gives the alert.';
