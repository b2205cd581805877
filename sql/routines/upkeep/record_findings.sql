CREATE OR REPLACE FUNCTION api.record_findings(p_report text) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = shop, pg_temp
AS $$
DECLARE
    v_since timestamptz := clock_timestamp();
    v_found integer;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('ordermill.findings.' || p_report));
    INSERT INTO upkeep_findings AS f (report, object, severity, detail)
    SELECT p_report, r.object, r.severity, r.detail FROM api.report(p_report) AS r
    ON CONFLICT ON CONSTRAINT upkeep_findings_pkey DO UPDATE SET
        severity = excluded.severity, detail = excluded.detail, found_at = clock_timestamp();
    GET DIAGNOSTICS v_found = ROW_COUNT;
    DELETE FROM upkeep_findings AS f WHERE f.report = p_report AND f.found_at < v_since;
    RETURN v_found;
END
$$;

COMMENT ON FUNCTION api.record_findings(text) IS
'Keeps what a report finds now in upkeep_findings, in place of what it found before, and gives how many; what is found again keeps its first time.';
