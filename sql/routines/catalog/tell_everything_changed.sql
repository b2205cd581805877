CREATE OR REPLACE FUNCTION shop.tell_everything_changed() RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER SET search_path = shop, pg_temp
AS $$
BEGIN
    INSERT INTO events_inbox (id, stream, kind, payload)
    VALUES (shop.uuid7(), 'catalog', 'catalog.changed', '{"everything": true}');
    RETURN NULL;
END
$$;

COMMENT ON FUNCTION shop.tell_everything_changed() IS
'After a statement that may have changed what can be read of any sku, such as one that moves locations to another pool: says so in one event.';
