CREATE OR REPLACE FUNCTION shop.judge_levels(p_levels shop.stock_key[]) RETURNS integer
LANGUAGE plpgsql VOLATILE
SET search_path = shop, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
DECLARE
    v_now timestamptz;
    v_opened bigint[];
    v_worse bigint[];
    v_resolved bigint[];
BEGIN
    -- One judge at a time, taken before a level is read: else one that read a level before it fell could close the
    -- alert that another has just found open. Levels themselves are not locked: orders go on.
    PERFORM pg_advisory_xact_lock(hashtext('ordermill.alerts'));
    v_now := clock_timestamp();
    WITH levels AS MATERIALIZED (
        SELECT DISTINCT l.variant_id, l.location_id, l.available,
            l.available <= coalesce(l.low_stock_threshold, g.low_stock_threshold) AS low
        FROM unnest(p_levels) AS k
        JOIN stock_levels AS l ON l.variant_id = k.variant_id AND l.location_id = k.location_id
        JOIN product_variants AS v ON v.id = l.variant_id
        JOIN products AS p ON p.id = v.product_id
        JOIN categories AS g ON g.id = p.category_id
    ), opened AS (
        INSERT INTO alerts (variant_id, location_id, level, opened_at, waits_since)
        SELECT l.variant_id, l.location_id, CASE WHEN l.available <= 0 THEN 'out' ELSE 'low' END, v_now, v_now
        FROM levels AS l
        WHERE l.low AND NOT EXISTS (SELECT FROM alerts AS a
            WHERE a.variant_id = l.variant_id AND a.location_id = l.location_id AND a.recovered_at IS NULL)
        RETURNING id
    ), worse AS (
        -- Who took it, or wanted to sleep over it, knew of a level that was only low.
        UPDATE alerts AS a SET level = 'out', state = 'open', waits_since = v_now, handled_by = NULL
        FROM levels AS l
        WHERE a.variant_id = l.variant_id AND a.location_id = l.location_id AND a.recovered_at IS NULL
            AND l.low AND l.available <= 0 AND a.level = 'low' AND a.state <> 'resolved'
        RETURNING a.id
    ), recovered AS (
        UPDATE alerts AS a SET recovered_at = v_now, state = 'resolved', resolved_at = coalesce(a.resolved_at, v_now)
        FROM levels AS l
        WHERE a.variant_id = l.variant_id AND a.location_id = l.location_id AND a.recovered_at IS NULL AND NOT l.low
        RETURNING a.id, a.resolved_at
    )
    SELECT (SELECT array_agg(id) FROM opened), (SELECT array_agg(id) FROM worse),
        (SELECT array_agg(id) FROM recovered WHERE resolved_at = v_now)
    INTO v_opened, v_worse, v_resolved;
    PERFORM tell_alerts('alert.opened', v_opened, array_fill(-1, ARRAY[coalesce(cardinality(v_opened), 0)]));
    PERFORM tell_alerts('alert.escalated', v_worse, array_fill(-1, ARRAY[coalesce(cardinality(v_worse), 0)]));
    PERFORM tell_alerts('alert.resolved', v_resolved);
    RETURN coalesce(cardinality(v_opened), 0) + coalesce(cardinality(v_worse), 0) + coalesce(cardinality(v_resolved), 0);
END
$$;

COMMENT ON FUNCTION shop.judge_levels(shop.stock_key[]) IS
'Compares these levels, as they are now, with their alerts: opens what is low, makes worse what is out, resolves what has recovered; gives how many alerts changed. Harmless to repeat.';
