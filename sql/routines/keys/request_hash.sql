CREATE OR REPLACE FUNCTION shop.request_hash(p_kind text, p_request shop.order_request) RETURNS bytea
LANGUAGE sql STABLE PARALLEL SAFE
AS $$
    -- Built from typed values, so that both doors, and any spelling of the same JSON, hash alike.
    SELECT sha256(convert_to(
        p_kind
        || E'\x1f' || coalesce((p_request).customer, '')
        || E'\x1f' || coalesce((p_request).pool, '')
        || E'\x1f' || coalesce((p_request).currency, '')
        || E'\x1f' || coalesce(extract(epoch FROM (p_request).ordered_at)::text, '')
        || E'\x1f' || coalesce((p_request).ship_to, '')
        || E'\x1f' || coalesce((p_request).skus::text, '')
        || E'\x1f' || coalesce((p_request).quantities::text, ''),
        'UTF8'))
$$;

COMMENT ON FUNCTION shop.request_hash(text, shop.order_request) IS 'Tells whether a key comes back with the same body.';
