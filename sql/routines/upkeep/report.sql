CREATE OR REPLACE FUNCTION api.report(p_report text) RETURNS TABLE (object text, severity text, detail jsonb)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = shop, pg_temp
AS $$
BEGIN
    IF coalesce(p_report, '') NOT IN ('statistics', 'slow', 'indexes', 'locks') THEN
        RAISE EXCEPTION 'there is no report %', coalesce(p_report, 'without a name') USING ERRCODE = 'OM011',
            HINT = 'There are statistics, slow, indexes and locks.';
    END IF;
    RETURN QUERY EXECUTE format('SELECT * FROM %I() ORDER BY severity DESC, object', 'report_' || p_report);
END
$$;

COMMENT ON FUNCTION api.report(text) IS 'What a report (statistics, slow, indexes, locks) finds now; warnings first.';
