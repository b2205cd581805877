CREATE OR REPLACE FUNCTION shop.record_refresh(
    p_view text, p_started timestamptz, p_rows bigint, p_staleness interval, p_error text
) RETURNS integer
LANGUAGE plpgsql VOLATILE
SET search_path = shop, pg_temp
AS $$
DECLARE
    v_ms integer := round(1000 * extract(epoch FROM clock_timestamp() - p_started));
BEGIN
    INSERT INTO view_refreshes (id, view, started_at, ms, rows, staleness_before, error)
    VALUES (shop.uuid7(), p_view, p_started, greatest(v_ms, 0), p_rows, p_staleness, p_error);
    DELETE FROM view_refreshes WHERE view = p_view AND id < shop.uuid7_floor(clock_timestamp() - interval '30 days');
    RETURN greatest(v_ms, 0);
END
$$;

COMMENT ON FUNCTION shop.record_refresh(text, timestamptz, bigint, interval, text) IS
'Writes a refresh that ended, well or not, gives its milliseconds, and deletes what this view''s refreshes of over 30 days ago left.';
