CREATE OR REPLACE VIEW api.event_consumers AS
SELECT
    c.consumer, c.outside, c.position, h.position - c.position AS behind,
    e.created_at AS behind_since, c.moved_at
FROM shop.event_consumers AS c
CROSS JOIN shop.event_head AS h
LEFT JOIN shop.events AS e ON e.position = c.position + 1;

COMMENT ON VIEW api.event_consumers IS
'How far each consumer is: how many events it is behind, and since when; moved_at: when it last took some; outside: its effect is not in the database.';
