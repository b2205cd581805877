CREATE OR REPLACE FUNCTION shop.record_order_steps() RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER SET search_path = shop, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO order_status_history (id, order_id, from_status, to_status, reason)
        SELECT shop.part_id(id, 1), id, 'new', status, status_reason FROM new_orders;
        INSERT INTO events_inbox (id, stream, kind, payload)
        SELECT shop.uuid7(), 'order:' || id, 'order.' || status, order_event(new_orders, 'new') FROM new_orders;
        RETURN NULL;
    END IF;
    -- The history's primary key counts an order's steps, so two writers cannot both write the next one.
    INSERT INTO order_status_history (id, order_id, from_status, to_status, reason)
    SELECT shop.part_id(n.id, 1 + (SELECT count(*)::integer FROM order_status_history AS s
        WHERE s.order_id = n.id AND s.id BETWEEN n.id AND shop.part_id(n.id, 65535))),
        n.id, o.status, n.status, n.status_reason
    FROM new_orders AS n JOIN old_orders AS o ON o.id = n.id
    WHERE n.status <> o.status;
    INSERT INTO events_inbox (id, stream, kind, payload)
    SELECT shop.uuid7(), 'order:' || n.id, 'order.' || n.status, order_event(n, o.status)
    FROM new_orders AS n JOIN old_orders AS o ON o.id = n.id
    WHERE n.status <> o.status;
    RETURN NULL;
END
$$;

COMMENT ON FUNCTION shop.record_order_steps() IS
'The only writer of order history: a step without its row, or a row for a step that is not allowed, cannot be written.';
