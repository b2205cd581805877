CREATE OR REPLACE FUNCTION api.complete_order(p_key text, p_order_id uuid) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = shop, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
DECLARE
    v_known jsonb := take_key(p_key, 'order.complete', jsonb_build_object('order_id', p_order_id));
    v_status text;
    v_short text;
BEGIN
    IF v_known IS NOT NULL THEN
        RETURN v_known;
    END IF;
    SELECT status INTO v_status FROM orders WHERE id = p_order_id FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN reject_key(p_key, 'OM015', 'order_id', format('There is no order %s.', coalesce(p_order_id::text, 'without an id')));
    ELSIF v_status <> 'placed' THEN
        RETURN reject_key(p_key, 'OM016', 'order_id', format('This order is %s; only a placed order can be completed.',
            replace(v_status, '_', ' ')));
    END IF;
    PERFORM lock_stock(array_agg(a.variant_id), array_agg(a.location_id)) FROM order_allocations AS a
    WHERE a.order_id = p_order_id AND a.id BETWEEN p_order_id AND shop.part_id(p_order_id, 65535);
    -- A backorder is a promise; only goods that are there can leave.
    SELECT min(v.sku) INTO v_short
    FROM (SELECT a.variant_id, a.location_id, sum(a.quantity) AS quantity FROM order_allocations AS a
        WHERE a.order_id = p_order_id AND a.id BETWEEN p_order_id AND shop.part_id(p_order_id, 65535)
        GROUP BY a.variant_id, a.location_id) AS w
    JOIN stock_levels AS l ON l.variant_id = w.variant_id AND l.location_id = w.location_id
    JOIN product_variants AS v ON v.id = w.variant_id
    WHERE l.available + l.held + l.committed + l.unavailable < w.quantity;
    IF v_short IS NOT NULL THEN
        RETURN reject_key(p_key, 'OM001', 'order_id', format('Less of sku %s is there than this order has; receive it first.', v_short));
    END IF;
    PERFORM move_allocations(ARRAY[p_order_id], 'fulfilled', 'order.completed', p_key, NULL);
    UPDATE orders SET status = 'in_fulfilment' WHERE id = p_order_id;
    UPDATE orders SET status = 'completed' WHERE id = p_order_id;
    RETURN decide_key(p_key, 'done', outcome(p_key, 'done', p_order_id, NULL, NULL, NULL));
END
$$;

COMMENT ON FUNCTION api.complete_order(text, uuid) IS
'Says that a placed order has left, once per key: its stock goes from committed to the customer. Of a backorder only when the goods are there.';
