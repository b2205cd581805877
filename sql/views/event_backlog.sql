CREATE OR REPLACE VIEW api.event_backlog AS
SELECT
    'inbox'::text AS waits_for, (SELECT count(*) FROM shop.events_inbox) AS events,
    (SELECT i.created_at FROM shop.events_inbox AS i ORDER BY i.seq LIMIT 1) AS waits_since
UNION ALL
SELECT
    c.consumer, h.position - c.position,
    (SELECT e.created_at FROM shop.events AS e WHERE e.position = c.position + 1)
FROM shop.event_consumers AS c, shop.event_head AS h;

COMMENT ON VIEW api.event_backlog IS
'How many events wait in the inbox for their positions, and for each consumer, and since when the oldest does.';
