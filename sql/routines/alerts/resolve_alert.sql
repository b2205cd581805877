CREATE OR REPLACE FUNCTION api.resolve_alert(p_alert_id bigint, p_by text DEFAULT NULL) RETURNS jsonb
LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = shop, pg_temp
AS $$
    SELECT handle_alert(p_alert_id, 'resolved', clock_timestamp(), p_by)
$$;

COMMENT ON FUNCTION api.resolve_alert(bigint, text) IS
'Closes an alert. While its level stays low no other is opened; once it has recovered, the next fall opens one. Gives the alert; harmless to repeat.';
