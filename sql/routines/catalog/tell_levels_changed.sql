CREATE OR REPLACE FUNCTION shop.tell_levels_changed() RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER SET search_path = shop, pg_temp
AS $$
BEGIN
    PERFORM tell_catalog_changed(NULL, ARRAY(
        SELECT DISTINCT v.sku FROM changed AS c JOIN product_variants AS v ON v.id = c.variant_id), NULL);
    RETURN NULL;
END
$$;

COMMENT ON FUNCTION shop.tell_levels_changed() IS
'After levels were made or deleted: says of which skus, whose availability has a pool more or less.';
