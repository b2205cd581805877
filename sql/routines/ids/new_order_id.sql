CREATE OR REPLACE FUNCTION shop.new_order_id() RETURNS uuid
LANGUAGE sql VOLATILE PARALLEL SAFE
AS $$
    SELECT encode(overlay(uuid_send(shop.uuid7()) PLACING '\x0000'::bytea FROM 15 FOR 2), 'hex')::uuid
$$;

COMMENT ON FUNCTION shop.new_order_id() IS 'A UUIDv7 whose last 16 bits are zero, left for the parts of the order (58 random bits remain).';
