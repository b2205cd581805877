CREATE OR REPLACE VIEW api.upkeep_findings AS
SELECT report, object, severity, detail, first_found_at, found_at FROM shop.upkeep_findings;

COMMENT ON VIEW api.upkeep_findings IS
'What the last run of each report found (statistics, slow, indexes, locks), and since when it is so.';
