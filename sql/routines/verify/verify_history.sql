CREATE OR REPLACE FUNCTION shop.verify_history() RETURNS TABLE (check_name text, entry text, detail jsonb)
LANGUAGE sql STABLE
SET search_path = shop, pg_temp
AS $$
    WITH steps AS (
        SELECT order_id, from_status, to_status, lag(to_status, 1, 'new') OVER w AS before,
            lead(to_status) OVER w IS NULL AS last
        FROM order_status_history WHERE id >= (SELECT retired_below())
        WINDOW w AS (PARTITION BY order_id ORDER BY id)
    )
    SELECT 'status_is_its_history', coalesce(o.id, s.order_id)::text, jsonb_build_object(
        'expected', CASE WHEN s.last THEN s.to_status END, 'found', o.status, 'from', s.from_status, 'before', s.before)
    FROM (SELECT id, status FROM orders WHERE id >= (SELECT retired_below())) AS o
    FULL JOIN steps AS s ON s.order_id = o.id
    WHERE o.id IS NULL OR s.order_id IS NULL OR s.from_status <> s.before OR (s.last AND s.to_status <> o.status)
    ORDER BY 2
$$;

COMMENT ON FUNCTION shop.verify_history() IS 'Orders whose status is not where their history ends, or whose steps do not follow one another.';
