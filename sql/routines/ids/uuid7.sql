-- Inlined into its callers, so it has no pinned search_path; every name in it is of pg_catalog.
CREATE OR REPLACE FUNCTION shop.uuid7(p_at timestamptz DEFAULT clock_timestamp()) RETURNS uuid
LANGUAGE sql VOLATILE PARALLEL SAFE
AS $$
    SELECT encode(
        set_bit(set_bit(
            overlay(
                uuid_send(gen_random_uuid())
                PLACING substring(int8send(floor(extract(epoch FROM p_at) * 1000)::bigint) FROM 3) FROM 1 FOR 6
            ), 52, 1), 53, 1),
        'hex')::uuid
$$;

COMMENT ON FUNCTION shop.uuid7(timestamptz) IS 'A new UUIDv7 (RFC 9562): 48 bits of milliseconds, then 74 random bits.';
