CREATE OR REPLACE VIEW api.event_backlog AS
SELECT 'inbox'::text AS waits_for, count(*) AS events, min(i.created_at) AS waits_since
FROM shop.events_inbox AS i
UNION ALL
SELECT
    c.consumer AS waits_for, h.position - c.position AS events,
    e.created_at AS waits_since
FROM shop.event_consumers AS c
CROSS JOIN shop.event_head AS h
LEFT JOIN shop.events AS e ON e.position = c.position + 1;

COMMENT ON VIEW api.event_backlog IS
'How many events wait in the inbox for their positions, and for each consumer, and since when the oldest does.';
