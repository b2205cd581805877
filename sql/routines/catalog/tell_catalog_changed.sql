CREATE OR REPLACE FUNCTION shop.tell_catalog_changed(p_products text[], p_skus text[], p_categories text[])
RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = shop, pg_temp
AS $$
DECLARE
    v_names bigint := coalesce(cardinality(p_products), 0) + coalesce(cardinality(p_skus), 0)
        + coalesce(cardinality(p_categories), 0);
BEGIN
    IF v_names > 0 THEN
        INSERT INTO events_inbox (id, stream, kind, payload)
        -- Of a load of the whole shop nobody wants a hundred thousand names.
        SELECT shop.uuid7(), 'catalog', 'catalog.changed', CASE WHEN v_names > 1000
            THEN jsonb_build_object('everything', true)
            ELSE jsonb_build_object(
                'products', coalesce(p_products, '{}'), 'skus', coalesce(p_skus, '{}'),
                'categories', coalesce(p_categories, '{}'))
        END;
    END IF;
END
$$;

COMMENT ON FUNCTION shop.tell_catalog_changed(text[], text[], text[]) IS
'Says in one event that what can be read of these products, skus (their availability) and categories has changed; of more than a thousand it says that everything has.';
