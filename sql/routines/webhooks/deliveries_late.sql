CREATE OR REPLACE FUNCTION api.deliveries_late(p_than interval) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = shop, pg_temp
AS $$
    SELECT EXISTS (
        SELECT FROM webhook_endpoints AS w
        CROSS JOIN LATERAL (
            SELECT d.due_at FROM delivery_streams AS d WHERE d.endpoint_id = w.id ORDER BY d.due_at LIMIT 1) AS o
        WHERE w.disabled_at IS NULL AND w.failures = 0 AND o.due_at < clock_timestamp() - p_than)
$$;

COMMENT ON FUNCTION api.deliveries_late(interval) IS
'Whether a healthy endpoint has something due for longer than this: its deliverer is too slow, or stands still.';
