CREATE OR REPLACE FUNCTION api.confirm_order(p_key text, p_order_id uuid) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = shop, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
DECLARE
    v_known jsonb := take_key(p_key, 'order.confirm', jsonb_build_object('order_id', p_order_id));
    v_status text;
BEGIN
    IF v_known IS NOT NULL THEN
        RETURN v_known;
    END IF;
    SELECT status INTO v_status FROM orders WHERE id = p_order_id FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN reject_key(p_key, 'OM015', 'order_id', format('There is no order %s.', coalesce(p_order_id::text, 'without an id')));
    ELSIF v_status = 'expired' THEN
        RETURN reject_key(p_key, 'OM021', 'order_id', 'The hold of this order has run out; order again.');
    ELSIF v_status <> 'held' THEN
        RETURN reject_key(p_key, 'OM016', 'order_id', format('This order is %s; only a held order can be confirmed.',
            replace(v_status, '_', ' ')));
    ELSIF EXISTS (
        SELECT FROM order_allocations
        WHERE order_id = p_order_id AND id BETWEEN p_order_id AND shop.part_id(p_order_id, 65535)
            AND expires_at <= clock_timestamp())
    THEN
        RETURN reject_key(p_key, 'OM021', 'order_id', 'The hold of this order has run out; order again.');
    END IF;
    PERFORM move_allocations(ARRAY[p_order_id], 'committed', 'order.confirmed', p_key, NULL);
    UPDATE orders SET status = 'placed' WHERE id = p_order_id;
    RETURN decide_key(p_key, 'done', outcome(p_key, 'done', p_order_id, NULL, NULL, NULL));
END
$$;

COMMENT ON FUNCTION api.confirm_order(text, uuid) IS 'Turns a held order into a placed one while its hold lasts, once per key.';
