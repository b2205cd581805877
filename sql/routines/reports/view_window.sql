CREATE OR REPLACE FUNCTION shop.view_window(p_view text) RETURNS timestamptz
LANGUAGE plpgsql STABLE
SET search_path = shop, pg_temp
AS $$
DECLARE
    v_setting view_freshness;
    v_last timestamptz := date_trunc('day', clock_timestamp(), 'UTC'); -- whole days: a window moves once a day
BEGIN
    SELECT * INTO v_setting FROM view_freshness WHERE view = p_view;
    IF v_setting.built_from IS NOT NULL THEN
        RETURN (SELECT s.from_at FROM view_states AS s WHERE s.view = v_setting.built_from);
    ELSIF v_setting.history IS NULL THEN
        RETURN '-infinity';
    ELSIF p_view = 'sales_by_hour' THEN
        -- Of a shop whose orders are all of long ago, as a replay's, the last hours there are. An order may be dated a
        -- day ahead, which must not move them.
        v_last := least(v_last, (SELECT max(d.day)::timestamp AT TIME ZONE 'UTC' FROM sales_by_day AS d));
    END IF;
    RETURN v_last - v_setting.history;
END
$$;

COMMENT ON FUNCTION shop.view_window(text) IS
'From when on a view''s data would be if it were refreshed now: the start of a day of UTC, or -infinity for all that the shop holds.';
