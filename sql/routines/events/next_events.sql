CREATE OR REPLACE FUNCTION shop.next_events(p_after bigint, p_limit integer) RETURNS shop.events[]
LANGUAGE plpgsql STABLE
SET search_path = shop, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
BEGIN
    RETURN (
        SELECT array_agg(n::events ORDER BY n.position)
        FROM (SELECT e.* FROM events AS e WHERE e.position > p_after ORDER BY e.position LIMIT p_limit) AS n);
END
$$;

COMMENT ON FUNCTION shop.next_events(bigint, integer) IS 'The events after a position, in order; NULL when there are none.';
