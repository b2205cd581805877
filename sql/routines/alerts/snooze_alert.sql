CREATE OR REPLACE FUNCTION api.snooze_alert(p_alert_id bigint, p_for interval, p_by text DEFAULT NULL) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = shop, pg_temp
AS $$
BEGIN
    IF p_for IS NULL OR p_for NOT BETWEEN interval '1 second' AND interval '365 days' THEN
        RAISE EXCEPTION 'an alert can be snoozed for 1 second to 365 days, not %', coalesce(p_for::text, 'nothing')
            USING ERRCODE = 'OM011';
    END IF;
    RETURN handle_alert(p_alert_id, 'snoozed', clock_timestamp() + p_for, p_by);
END
$$;

COMMENT ON FUNCTION api.snooze_alert(bigint, interval, text) IS
'Lets an alert sleep for so long: it is not escalated, and then told again. Gives the alert.';
