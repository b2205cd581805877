CREATE OR REPLACE FUNCTION shop.uuid7_floor(p_at timestamptz) RETURNS uuid
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
    SELECT encode(
        substring(int8send(floor(extract(epoch FROM p_at) * 1000)::bigint) FROM 3) || '\x00000000000000000000'::bytea,
        'hex')::uuid
$$;

COMMENT ON FUNCTION shop.uuid7_floor(timestamptz) IS 'The lowest id of that millisecond: a bound for partitions and for looking up by time.';
