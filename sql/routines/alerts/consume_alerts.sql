CREATE OR REPLACE FUNCTION shop.consume_alerts(p_events shop.events[]) RETURNS integer
LANGUAGE plpgsql VOLATILE
SET search_path = shop, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
DECLARE
    v_levels stock_key[];
    v_now timestamptz;
    v_closed bigint[];
    v_resolved bigint[];
BEGIN
    SELECT array_agg(DISTINCT ROW((e.payload ->> 'variant_id')::bigint, (e.payload ->> 'location_id')::integer)::stock_key)
    INTO v_levels
    FROM unnest(p_events) AS e WHERE e.kind IN ('stock.low', 'stock.out', 'stock.recovered');
    IF v_levels IS NULL THEN
        RETURN 0;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('ordermill.alerts')); -- as shop.judge_levels, before an alert is read
    v_now := clock_timestamp();
    -- A level that has recovered and fallen again looks as if it had never recovered: only the event tells. After a rewind
    -- an alert that is younger than the event stays.
    WITH recovered AS (
        SELECT (e.payload ->> 'variant_id')::bigint AS variant_id, (e.payload ->> 'location_id')::integer AS location_id,
            max(e.created_at) AS at
        FROM unnest(p_events) AS e WHERE e.kind = 'stock.recovered' GROUP BY 1, 2
    ), closed AS (
        UPDATE alerts AS a SET recovered_at = v_now, state = 'resolved', resolved_at = coalesce(a.resolved_at, v_now)
        FROM recovered AS r
        WHERE a.variant_id = r.variant_id AND a.location_id = r.location_id AND a.recovered_at IS NULL
            AND a.opened_at < r.at
        RETURNING a.id, a.resolved_at
    )
    SELECT array_agg(c.id), array_agg(c.id) FILTER (WHERE c.resolved_at = v_now) INTO v_closed, v_resolved FROM closed AS c;
    PERFORM tell_alerts('alert.resolved', v_resolved);
    -- For the rest an event says only where to look. The level itself is at least as new as the last of them, so what has
    -- recovered meanwhile opens nothing, also after a rewind; whatever changes it later writes an event that comes later.
    RETURN coalesce(cardinality(v_closed), 0) + judge_levels(v_levels);
END
$$;

COMMENT ON FUNCTION shop.consume_alerts(shop.events[]) IS
'Consumer alerts: closes alerts whose level has recovered since they opened, and judges each level that crossed its threshold or zero; gives how many alerts changed.';
