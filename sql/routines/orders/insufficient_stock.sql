CREATE OR REPLACE FUNCTION shop.insufficient_stock(p_left bigint, p_asked bigint, p_sku text, p_pool text) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = shop, pg_temp
AS $$
    SELECT CASE WHEN p_left > 0
        THEN format(
            'Only %s of the %s asked of sku %s can be had in pool %s; ask for fewer.', p_left, p_asked, p_sku, p_pool)
        ELSE format('Sku %s is sold out in pool %s.', p_sku, p_pool) END
$$;

COMMENT ON FUNCTION shop.insufficient_stock(bigint, bigint, text, text) IS 'The sentence of OM001 for an order''s line.';
