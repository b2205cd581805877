CREATE OR REPLACE FUNCTION api.scan_low_stock(
    p_after_variant bigint DEFAULT 0, p_after_location integer DEFAULT 0, p_limit integer DEFAULT 1000
) RETURNS TABLE (variant_id bigint, location_id integer, changed integer)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = shop, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
DECLARE
    v_levels stock_key[];
BEGIN
    v_levels := ARRAY(
        SELECT ROW(l.variant_id, l.location_id)::stock_key FROM stock_levels AS l
        WHERE (l.variant_id, l.location_id) > (p_after_variant, p_after_location)
        ORDER BY l.variant_id, l.location_id LIMIT p_limit);
    IF cardinality(v_levels) > 0 THEN
        RETURN QUERY
        SELECT v_levels[cardinality(v_levels)].variant_id, v_levels[cardinality(v_levels)].location_id,
            judge_levels(v_levels);
    END IF;
END
$$;

COMMENT ON FUNCTION api.scan_low_stock(bigint, integer, integer) IS
'Judges the next levels after this one, whatever events said: one bounded batch; gives the last of them and how many alerts changed, no row when there are no more.';
