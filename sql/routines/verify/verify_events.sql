CREATE OR REPLACE FUNCTION shop.verify_events() RETURNS TABLE (check_name text, entry text, detail jsonb)
LANGUAGE sql STABLE
SET search_path = shop, pg_temp
AS $$
    WITH found AS (
        SELECT coalesce(min(e.position), 0) AS first, coalesce(max(e.position), 0) AS last, count(*) AS events
        FROM events AS e
    ), gap AS (
        SELECT 'positions_have_no_gap' AS check_name, 'events' AS entry, jsonb_build_object(
            'first', f.first, 'last', f.last, 'expected', f.last - f.first + 1, 'found', f.events) AS detail
        FROM found AS f WHERE f.events > 0 AND f.events <> f.last - f.first + 1
    ), head AS (
        SELECT 'the_head_is_the_last_position' AS check_name, 'event_head' AS entry, jsonb_build_object(
            'expected', f.last, 'found', h.position) AS detail
        FROM found AS f, event_head AS h WHERE f.last > h.position OR (f.events > 0 AND f.last < h.position)
    ), ahead AS (
        SELECT 'no_consumer_is_ahead_of_events' AS check_name, c.consumer AS entry, jsonb_build_object(
            'expected', h.position, 'found', c.position) AS detail
        FROM event_consumers AS c, event_head AS h WHERE c.position > h.position ORDER BY c.consumer
    )
    SELECT * FROM gap UNION ALL SELECT * FROM head UNION ALL SELECT * FROM ahead
$$;

COMMENT ON FUNCTION shop.verify_events() IS 'Events without a position of their own, and cursors that would skip some.';
