CREATE OR REPLACE FUNCTION shop.as_request(p_request jsonb) RETURNS shop.order_request
LANGUAGE plpgsql STABLE
SET search_path = shop, pg_temp
AS $$
BEGIN
    -- In plpgsql, which keeps the plan: a routine in SQL is planned in each transaction anew.
    RETURN (
        SELECT ROW(
            p_request ->> 'key', p_request ->> 'customer', p_request ->> 'pool', p_request ->> 'currency',
            (p_request ->> 'ordered_at')::timestamptz, p_request ->> 'ship_to',
            array_agg(l ->> 'sku' ORDER BY n), array_agg((l ->> 'quantity')::numeric::integer ORDER BY n)
        )::order_request
        FROM jsonb_array_elements(p_request -> 'lines') WITH ORDINALITY AS lines (l, n));
END
$$;

COMMENT ON FUNCTION shop.as_request(jsonb) IS 'The typed values of a request in which shop.check_order found nothing wrong.';
