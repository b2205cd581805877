CREATE OR REPLACE FUNCTION shop.part_id(p_order_id uuid, p_number integer) RETURNS uuid
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
    SELECT encode(overlay(uuid_send(p_order_id) PLACING substring(int4send(p_number) FROM 3) FROM 15 FOR 2), 'hex')::uuid
$$;

COMMENT ON FUNCTION shop.part_id(uuid, integer) IS
'The id of an order''s part number 1 to 65535: line, allocation or history step. It sorts right behind the order, in its partition.';
