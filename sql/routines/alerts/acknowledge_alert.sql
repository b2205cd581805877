CREATE OR REPLACE FUNCTION api.acknowledge_alert(p_alert_id bigint, p_by text DEFAULT NULL) RETURNS jsonb
LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = shop, pg_temp
AS $$
    SELECT handle_alert(p_alert_id, 'acknowledged', clock_timestamp(), p_by)
$$;

COMMENT ON FUNCTION api.acknowledge_alert(bigint, text) IS
'Somebody looks after an alert: it is not escalated any more. Gives the alert; harmless to repeat.';
