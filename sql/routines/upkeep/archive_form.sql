CREATE OR REPLACE FUNCTION shop.archive_form(p_part regclass) RETURNS TABLE (name text, type text, as_text text)
LANGUAGE plpgsql STABLE
SET search_path = shop, pg_temp
AS $$
DECLARE
    v_unknown text;
BEGIN
    SELECT string_agg(format('%s %s', a.attname, format_type(a.atttypid, a.atttypmod)), ', ') INTO v_unknown
    FROM pg_attribute AS a
    WHERE a.attrelid = p_part AND a.attnum > 0 AND NOT a.attisdropped AND format_type(a.atttypid, a.atttypmod) <> ALL (
        '{uuid,text,bigint,integer,smallint,boolean,jsonb,timestamp with time zone}'::text[]);
    IF v_unknown IS NOT NULL THEN
        RAISE EXCEPTION '% cannot be archived: of a type unknown to archives: %', p_part, v_unknown
            USING ERRCODE = 'OM052';
    END IF;
    RETURN QUERY
    SELECT a.attname::text, format_type(a.atttypid, a.atttypmod),
        -- Microseconds are the same number in PostgreSQL and DuckDB; a written time is not.
        CASE WHEN a.atttypid = 'timestamptz'::regtype THEN format('(extract(epoch FROM %I) * 1000000)::bigint::text',
            a.attname) ELSE format('%I::text', a.attname) END
    FROM pg_attribute AS a
    WHERE a.attrelid = p_part AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum;
END
$$;

COMMENT ON FUNCTION shop.archive_form(regclass) IS
'The columns of a table, and the expression that gives each as text for an archive and for its digest.';
