CREATE OR REPLACE FUNCTION shop.tell_variants_changed() RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER SET search_path = shop, pg_temp
AS $$
DECLARE
    v_skus text[];
    v_products bigint[];
BEGIN
    SELECT array_agg(c.sku), array_agg(DISTINCT c.product_id) INTO v_skus, v_products FROM changed AS c;
    IF TG_OP = 'UPDATE' THEN
        SELECT v_skus || array_agg(b.sku) FILTER (WHERE b.sku <> ALL (v_skus)), v_products || array_agg(DISTINCT b.product_id)
        INTO v_skus, v_products FROM before AS b;
    END IF;
    PERFORM tell_catalog_changed(
        ARRAY(SELECT p.code FROM products AS p WHERE p.id = ANY (v_products)), v_skus, NULL);
    RETURN NULL;
END
$$;

COMMENT ON FUNCTION shop.tell_variants_changed() IS
'After a statement on variants: says which skus, before and after, and the products that they belong or belonged to.';
