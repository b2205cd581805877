CREATE OR REPLACE FUNCTION shop.tell_products_changed() RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER SET search_path = shop, pg_temp
AS $$
DECLARE
    v_products text[];
    v_categories bigint[];
    v_moved bigint[];
BEGIN
    SELECT array_agg(DISTINCT c.code), array_agg(DISTINCT c.category_id) INTO v_products, v_categories FROM changed AS c;
    IF TG_OP = 'UPDATE' THEN
        SELECT v_products || array_agg(DISTINCT b.code), v_categories || array_agg(DISTINCT b.category_id)
        INTO v_products, v_categories FROM before AS b;
        -- In another category another threshold makes them low.
        SELECT array_agg(c.id) INTO v_moved FROM changed AS c JOIN before AS b ON b.id = c.id
        WHERE b.category_id <> c.category_id;
    END IF;
    PERFORM tell_catalog_changed(v_products,
        ARRAY(SELECT v.sku FROM product_variants AS v WHERE v.product_id = ANY (v_moved)),
        ARRAY(SELECT g.code FROM categories AS g WHERE g.id = ANY (v_categories)));
    RETURN NULL;
END
$$;

COMMENT ON FUNCTION shop.tell_products_changed() IS
'After a statement on products: says which they are, by their codes before and after, the categories that they are or were in, and the skus of those that changed it.';
