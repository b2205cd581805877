CREATE OR REPLACE FUNCTION shop.uuid7_time(p_id uuid) RETURNS timestamptz
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
    SELECT to_timestamp(('x0000' || encode(substring(uuid_send(p_id) FROM 1 FOR 6), 'hex'))::bit(64)::bigint / 1000.0)
$$;

COMMENT ON FUNCTION shop.uuid7_time(uuid) IS 'When a UUIDv7 was made, to the millisecond.';
