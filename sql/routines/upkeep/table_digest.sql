CREATE OR REPLACE FUNCTION shop.table_digest(
    p_part regclass, p_columns text[] DEFAULT NULL, OUT row_count bigint, OUT digest numeric
)
LANGUAGE plpgsql STABLE
SET search_path = shop, pg_temp
AS $$
DECLARE
    v_row text;
BEGIN
    SELECT string_agg(format($f$coalesce(octet_length(%1$s) || ':' || %1$s, '-')$f$, f.as_text), ' || ') INTO v_row
    FROM archive_form(p_part) AS f WHERE p_columns IS NULL OR f.name = ANY (p_columns);
    -- A sum, so that the order of rows does not matter. DuckDB computes the same from the archive (workers/archive.py).
    EXECUTE format($f$SELECT count(*), coalesce(sum(('x' || left(md5(%s), 15))::bit(60)::bigint), 0) FROM %s$f$,
        v_row, p_part) INTO row_count, digest;
END
$$;

COMMENT ON FUNCTION shop.table_digest(regclass, text[]) IS
'How many rows a table has and a digest of all their values; equal digests mean equal rows.';
