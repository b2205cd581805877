CREATE OR REPLACE VIEW api.view_freshness AS
WITH tried AS (
    SELECT
        f.view,
        (
            SELECT r.id FROM shop.view_refreshes AS r
            WHERE r.view = f.view
            ORDER BY r.id DESC LIMIT 1
        ) AS last_id,
        (
            SELECT r.id FROM shop.view_refreshes AS r
            WHERE r.view = f.view AND r.error IS NULL
            ORDER BY r.id DESC LIMIT 1
        ) AS last_good_id
    FROM shop.view_freshness AS f
)

SELECT
    f.view, f.enabled, f.max_staleness, f.deadline, f.history, f.built_from, s.refreshed_at,
    clock_timestamp() - s.refreshed_at AS staleness, nullif(s.from_at, '-infinity') AS covers_from, g.rows, g.ms,
    l.started_at AS last_tried_at, l.error AS last_error, s.failures, s.retry_at
FROM shop.view_freshness AS f
JOIN shop.view_states AS s ON s.view = f.view
JOIN tried AS t ON t.view = f.view
LEFT JOIN shop.view_refreshes AS l ON l.id = t.last_id
LEFT JOIN shop.view_refreshes AS g ON g.id = t.last_good_id
ORDER BY f.turn;

COMMENT ON VIEW api.view_freshness IS
'How fresh each materialized view is to be (api.set_view_freshness) and is: staleness is the age of its data, covers_from how far it looks back (NULL: all), rows and ms are of the last refresh that went well, last_error is NULL when the last one did. api.stale_views() says which are due.';
