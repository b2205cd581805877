CREATE OR REPLACE FUNCTION shop.tell_categories_changed() RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER SET search_path = shop, pg_temp
AS $$
DECLARE
    v_codes text[];
    v_near bigint[];
BEGIN
    SELECT array_agg(c.code), array_agg(c.id) || array_agg(c.parent_id) INTO v_codes, v_near FROM changed AS c;
    IF TG_OP = 'UPDATE' THEN
        -- Its products tell its code, and their availability its threshold.
        IF EXISTS (SELECT FROM changed AS c JOIN before AS b ON b.id = c.id
            WHERE b.code <> c.code OR b.low_stock_threshold <> c.low_stock_threshold)
        THEN
            INSERT INTO events_inbox (id, stream, kind, payload)
            VALUES (shop.uuid7(), 'catalog', 'catalog.changed', '{"everything": true}');
            RETURN NULL;
        END IF;
        SELECT v_near || array_agg(b.parent_id) INTO v_near FROM before AS b;
    END IF;
    -- A category tells the names of its parent and of those below it.
    PERFORM tell_catalog_changed(NULL, NULL, ARRAY(
        SELECT g.code FROM categories AS g WHERE g.id = ANY (v_near) OR g.parent_id = ANY (v_near)
        UNION
        SELECT u FROM unnest(v_codes) AS u));
    RETURN NULL;
END
$$;

COMMENT ON FUNCTION shop.tell_categories_changed() IS
'After a statement on categories: says which, with those above and below them; a change of code or threshold concerns everything in them, so then everything.';
