CREATE OR REPLACE FUNCTION shop.drop_archived(p_table text, p_month date) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = shop, pg_temp
AS $$
DECLARE
    v_part regclass := to_regclass('shop.' || month_part(p_table, p_month));
    v_found record;
BEGIN
    IF EXISTS (SELECT FROM pg_inherits AS i WHERE i.inhrelid = v_part) THEN
        RAISE EXCEPTION '% is still attached', v_part USING ERRCODE = 'OM051';
    END IF;
    SELECT d.row_count, d.digest INTO v_found FROM table_digest(v_part) AS d;
    UPDATE archives AS a SET dropped_at = clock_timestamp()
    WHERE a.table_name = p_table AND a.month = p_month AND a.rows = v_found.row_count AND a.digest = v_found.digest;
    IF NOT FOUND THEN
        RAISE EXCEPTION '% has no archive of the same % rows', v_part, v_found.row_count USING ERRCODE = 'OM051',
            HINT = 'Run `ordermill archive run`: it is archived anew.';
    END IF;
    EXECUTE format('DROP TABLE %s', v_part);
END
$$;

COMMENT ON FUNCTION shop.drop_archived(text, date) IS
'Drops a detached partition whose rows are, to the digest, those of its archive; OM051 else.';
