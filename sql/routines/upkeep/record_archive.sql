CREATE OR REPLACE FUNCTION shop.record_archive(
    p_table text, p_month date, p_file text, p_rows bigint, p_digest numeric, p_sha256 text, p_bytes bigint
) RETURNS void
LANGUAGE sql VOLATILE
SET search_path = shop, pg_temp
AS $$
    INSERT INTO archives (table_name, month, file, rows, digest, sha256, bytes)
    VALUES (p_table, p_month, p_file, p_rows, p_digest, p_sha256, p_bytes)
    ON CONFLICT ON CONSTRAINT archives_pkey DO UPDATE SET
        file = excluded.file, rows = excluded.rows, digest = excluded.digest, sha256 = excluded.sha256,
        bytes = excluded.bytes, archived_at = clock_timestamp(), dropped_at = NULL
$$;

COMMENT ON FUNCTION shop.record_archive(text, date, text, bigint, numeric, text, bigint) IS
'Notes an archive that was read back whole: from then on its partition may be dropped.';
