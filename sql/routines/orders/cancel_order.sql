CREATE OR REPLACE FUNCTION api.cancel_order(p_key text, p_order_id uuid, p_reason text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = shop, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
DECLARE
    v_known jsonb := take_key(p_key, 'order.cancel', jsonb_build_object('order_id', p_order_id, 'reason', p_reason));
    v_status text;
BEGIN
    IF v_known IS NOT NULL THEN
        RETURN v_known;
    ELSIF bad_text(to_jsonb(p_reason)) IS NOT NULL THEN
        RETURN reject_key(p_key, 'OM013', 'reason', bad_text(to_jsonb(p_reason)));
    END IF;
    SELECT status INTO v_status FROM orders WHERE id = p_order_id FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN reject_key(p_key, 'OM015', 'order_id', format('There is no order %s.', coalesce(p_order_id::text, 'without an id')));
    ELSIF NOT EXISTS (SELECT FROM allowed_transitions WHERE from_status = v_status AND to_status = 'cancelled') THEN
        RETURN reject_key(p_key, 'OM016', 'order_id', format('This order is %s and cannot be cancelled.',
            replace(v_status, '_', ' ')));
    END IF;
    PERFORM move_allocations(ARRAY[p_order_id], 'released', 'order.cancelled', p_key, p_reason);
    UPDATE orders SET status = 'cancelled', status_reason = p_reason WHERE id = p_order_id;
    RETURN decide_key(p_key, 'done', outcome(p_key, 'done', p_order_id, NULL, NULL, NULL));
END
$$;

COMMENT ON FUNCTION api.cancel_order(text, uuid, text) IS 'Cancels a held or placed order and gives its stock back, once per key.';
