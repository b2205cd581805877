CREATE OR REPLACE VIEW api.event_consumers AS
SELECT
    c.consumer, c.outside, c.position, h.position - c.position AS behind,
    (SELECT e.created_at FROM shop.events AS e WHERE e.position = c.position + 1) AS behind_since, c.moved_at
FROM shop.event_consumers AS c, shop.event_head AS h;

COMMENT ON VIEW api.event_consumers IS
'How far each consumer is: how many events it is behind, and since when; moved_at: when it last took some; outside: its effect is not in the database.';
