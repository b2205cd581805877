CREATE OR REPLACE FUNCTION api.months_to_retire() RETURNS TABLE (month date, reasons text[])
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = shop, pg_temp
AS $$
    -- What was begun is finished first, whatever the policy says now.
    SELECT r.month, '{}'::text[] FROM retirements AS r WHERE r.finished_at IS NULL
    UNION ALL
    SELECT m.month, reasons_to_keep(m.month) FROM attached_months() AS m
    WHERE m.month + interval '1 month' <= date_trunc('month', now() AT TIME ZONE 'UTC')
        - kept_for('partitions')
        AND NOT EXISTS (SELECT FROM retirements AS r WHERE r.month = m.month)
    ORDER BY 1
$$;

COMMENT ON FUNCTION api.months_to_retire() IS
'The months whose partitions are older than the policy keeps them, oldest first, and why one has to stay for now.';
