CREATE OR REPLACE FUNCTION api.place_orders(p_requests jsonb) RETURNS SETOF jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER ROWS 100
SET search_path = shop, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
BEGIN
    RETURN QUERY SELECT decide_orders(
        ARRAY(SELECT r FROM jsonb_populate_recordset(NULL::order_request, p_requests) AS r), 'order.place', 'placed', NULL);
END
$$;

COMMENT ON FUNCTION api.place_orders(jsonb) IS
'For a door that has validated them (typed values: key, customer, pool, currency, ordered_at, ship_to, skus, quantities): places a batch of orders in one transaction and gives an outcome each, in order. 50 to 200 at once is fastest.';
