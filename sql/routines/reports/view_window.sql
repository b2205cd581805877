CREATE OR REPLACE FUNCTION shop.view_window(p_view text) RETURNS timestamptz
LANGUAGE sql STABLE
SET search_path = shop, pg_temp
AS $$
    -- Whole days, so that a window moves once a day. The hours of a shop whose orders are all of long ago, as a replay's,
    -- are its last ones; an order may be dated a day ahead, which must not move them.
    SELECT CASE
        WHEN f.built_from IS NOT NULL THEN (SELECT s.from_at FROM view_states AS s WHERE s.view = f.built_from)
        WHEN f.history IS NULL THEN '-infinity'::timestamptz
        ELSE least(
            date_trunc('day', clock_timestamp(), 'UTC'),
            CASE p_view WHEN 'sales_by_hour' THEN (SELECT max(d.day) FROM sales_by_day AS d)::timestamp AT TIME ZONE 'UTC' END
        ) - f.history
    END
    FROM view_freshness AS f WHERE f.view = p_view
$$;

COMMENT ON FUNCTION shop.view_window(text) IS
'From when on a view''s data would be if it were refreshed now: the start of a day of UTC, or -infinity for all that the shop holds.';
