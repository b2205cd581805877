CREATE OR REPLACE VIEW api.view_refreshes AS
SELECT r.id, r.view, r.started_at, r.ms, r.rows, r.staleness_before, r.error FROM shop.view_refreshes AS r;

COMMENT ON VIEW api.view_refreshes IS
'Each refresh of a materialized view within 30 days: how long it took, how many rows the view then had, how old its data was before (NULL: the first), or why it failed.';
