CREATE OR REPLACE FUNCTION shop.verify_events() RETURNS TABLE (check_name text, entry text, detail jsonb)
LANGUAGE sql STABLE
SET search_path = shop, pg_temp
AS $$
    WITH found AS (
        -- Behind the anchor that retiring leaves; an event of a retired month may have come late, and is below it.
        SELECT a.through AS through, coalesce(max(e.position), a.through) AS last, count(e.position) AS events
        FROM (SELECT coalesce(max(r.events_through), 0) AS through FROM retirements AS r) AS a
        LEFT JOIN events AS e ON e.position > a.through
        GROUP BY a.through
    ), gap AS (
        SELECT 'positions_have_no_gap' AS check_name, 'events' AS entry, jsonb_build_object(
            'through', f.through, 'last', f.last, 'expected', f.last - f.through, 'found', f.events) AS detail
        FROM found AS f WHERE f.events <> f.last - f.through
    ), head AS (
        SELECT 'the_head_is_the_last_position' AS check_name, 'event_head' AS entry, jsonb_build_object(
            'expected', f.last, 'found', h.position) AS detail
        FROM found AS f, event_head AS h WHERE f.last > h.position OR (f.last > 0 AND f.last < h.position)
    ), ahead AS (
        SELECT 'no_consumer_is_ahead_of_events' AS check_name, c.consumer AS entry, jsonb_build_object(
            'expected', h.position, 'found', c.position) AS detail
        FROM event_consumers AS c, event_head AS h WHERE c.position > h.position ORDER BY c.consumer
    )
    SELECT * FROM gap UNION ALL SELECT * FROM head UNION ALL SELECT * FROM ahead
$$;

COMMENT ON FUNCTION shop.verify_events() IS 'Events without a position of their own, and cursors that would skip some.';
