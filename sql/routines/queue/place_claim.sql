CREATE OR REPLACE FUNCTION api.place_claim(p_claim_id uuid) RETURNS SETOF jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER ROWS 100
SET search_path = shop, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
DECLARE
    v_claim claims;
    v_requests order_request[];
BEGIN
    -- Who deletes the claim has the orders. Nothing deleted: it was swept back, or placed by a twin.
    DELETE FROM claims WHERE id = p_claim_id RETURNING * INTO v_claim;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    WITH gone AS (
        DELETE FROM order_queue WHERE id = ANY (v_claim.queue_ids)
        RETURNING id, key, customer, pool, currency, ordered_at, ship_to, skus, quantities
    )
    SELECT array_agg(ROW(key, customer, pool, currency, ordered_at, ship_to, skus, quantities)::order_request ORDER BY id)
    INTO v_requests FROM gone;
    RETURN QUERY SELECT decide_orders(v_requests, 'order.place', 'placed', NULL, '', v_claim);
END
$$;

COMMENT ON FUNCTION api.place_claim(uuid) IS
'The second of a drain''s two transactions: places a claim''s orders and gives an outcome each; none when the claim is no longer there.';
