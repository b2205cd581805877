CREATE OR REPLACE FUNCTION shop.consume_alerts(p_events shop.events[]) RETURNS integer
LANGUAGE plpgsql VOLATILE
SET search_path = shop, pg_temp
AS $$
DECLARE
    v_levels stock_key[];
BEGIN
    -- An event says only where to look. The level itself is at least as new as the last of them, so what has recovered
    -- meanwhile opens nothing, also after a rewind; whatever changes it later writes an event that comes later.
    SELECT array_agg(DISTINCT ROW((e.payload ->> 'variant_id')::bigint, (e.payload ->> 'location_id')::integer)::stock_key)
    INTO v_levels
    FROM unnest(p_events) AS e WHERE e.kind IN ('stock.low', 'stock.out', 'stock.recovered');
    RETURN CASE WHEN v_levels IS NULL THEN 0 ELSE judge_levels(v_levels) END;
END
$$;

COMMENT ON FUNCTION shop.consume_alerts(shop.events[]) IS
'Consumer alerts: judges each level that crossed its threshold or zero; gives how many alerts changed.';
