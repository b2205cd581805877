CREATE OR REPLACE VIEW api.dead_letters AS
SELECT
    id, source, key, payload, code, reason, attempts, created_at, settled_at, settlement,
    CASE
        WHEN source = 'events' THEN 'event' WHEN source = 'webhooks' THEN 'delivery' WHEN source = 'mail' THEN 'mail'
        WHEN queue IS NOT NULL THEN 'unread' WHEN task IS NOT NULL THEN 'message' ELSE 'order'
    END AS kind,
    CASE WHEN source = 'celery' AND queue IS NULL THEN coalesce(task, 'orders.place') ELSE task END AS task,
    -- A queue's name is the area of its tasks.
    CASE
        WHEN queue IS NOT NULL THEN queue WHEN source = 'celery' THEN split_part(coalesce(task, 'orders'), '.', 1)
    END AS queue
FROM shop.dead_letters;

COMMENT ON VIEW api.dead_letters IS
'What could not be done, with its payload and reason, and what became of it: an order, the message of a task that failed, or an item that no worker could read. Open while settled_at is NULL.';
