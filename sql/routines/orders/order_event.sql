CREATE OR REPLACE FUNCTION shop.order_event(p_order shop.orders, p_from_status text) RETURNS jsonb
LANGUAGE sql STABLE
AS $$
    -- No pinned search_path, so that it is inlined: called for each order, it cost 0.08 ms of the placing of one.
    SELECT jsonb_build_object(
        'order_id', p_order.id, 'key', p_order.key, 'customer_id', p_order.customer_id, 'pool_id', p_order.pool_id,
        'from', p_from_status, 'status', p_order.status, 'reason', p_order.status_reason,
        'total_amount', p_order.total_amount, 'currency', p_order.currency, 'ordered_at', p_order.ordered_at)
$$;

COMMENT ON FUNCTION shop.order_event(shop.orders, text) IS 'What an order event tells.';
