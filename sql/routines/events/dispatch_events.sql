CREATE OR REPLACE FUNCTION api.dispatch_events(p_consumer text, p_limit integer DEFAULT 500) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = shop, pg_temp
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    v_after bigint;
    v_events events[];
BEGIN
    IF NOT EXISTS (SELECT FROM event_consumers AS c, event_head AS h
        WHERE c.consumer = p_consumer AND NOT c.outside AND c.position < h.position) THEN
        RETURN 0;
    END IF;
    -- A twin has the cursor: it does this batch.
    SELECT position INTO v_after FROM event_consumers
    WHERE consumer = p_consumer FOR NO KEY UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    v_events := next_events(v_after, p_limit);
    IF v_events IS NULL THEN
        RETURN 0;
    END IF;
    EXECUTE format('SELECT shop.%I($1)', 'consume_' || p_consumer) USING v_events;
    UPDATE event_consumers SET position = v_events[cardinality(v_events)].position, moved_at = clock_timestamp()
    WHERE consumer = p_consumer;
    RETURN cardinality(v_events);
END
$$;

COMMENT ON FUNCTION api.dispatch_events(text, integer) IS
'Gives a consumer its next events, in order, and moves its cursor in the same transaction: exactly once. One bounded batch; gives how many, 0 when it has all or another dispatcher is at it.';
