CREATE OR REPLACE FUNCTION shop.reasons_to_keep(p_month date) RETURNS text[]
LANGUAGE plpgsql STABLE
SET search_path = shop, pg_temp
AS $$
DECLARE
    v_from uuid := uuid7_floor(p_month::timestamp AT TIME ZONE 'UTC');
    v_to uuid := uuid7_floor((p_month + interval '1 month') AT TIME ZONE 'UTC');
    -- Orders are placed in this month, and in the last while a clock steps back: whatever the policy says, they stay.
    v_until timestamp := p_month + interval '1 month'
        + CASE WHEN kept_for('partitions') IS NOT NULL THEN greatest(kept_for('partitions'), interval '3 months') END;
    v_last bigint := (SELECT max(e.position) FROM events AS e WHERE e.id >= v_from AND e.id < v_to);
BEGIN
    RETURN (SELECT coalesce(array_agg(reason ORDER BY place), '{}') FROM (
        SELECT 1 AS place, coalesce('it is kept until ' || v_until::date,
            'it is kept for ever: shop.retention_policies has no row for partitions') AS reason
        WHERE coalesce(v_until > date_trunc('month', now() AT TIME ZONE 'UTC'), true)
        UNION ALL
        SELECT 2, format('%s comes first', to_char(min(m.month), 'YYYY-MM')) FROM attached_months() AS m
        WHERE m.month < p_month AND NOT EXISTS (SELECT FROM retirements AS r WHERE r.month >= m.month)
        HAVING count(*) > 0
        UNION ALL
        SELECT 3, format('%s orders are not finished', count(*)) FROM orders AS o
        WHERE o.id >= v_from AND o.id < v_to
            AND EXISTS (SELECT FROM allowed_transitions AS t WHERE t.from_status = o.status) HAVING count(*) > 0
        UNION ALL
        SELECT 4, format('%s allocations hold stock', count(*)) FROM order_allocations AS a
        WHERE a.id >= v_from AND a.id < v_to AND a.state IN ('held', 'committed') HAVING count(*) > 0
        UNION ALL
        -- A key is received before its order has an id.
        SELECT 5, format('%s request keys still answer with its orders', count(*)) FROM request_keys AS k
        WHERE k.received_at < (p_month + interval '1 month') AT TIME ZONE 'UTC' AND k.status IN ('placed', 'held')
            AND (k.answer ->> 'order_id')::uuid >= v_from AND (k.answer ->> 'order_id')::uuid < v_to
        HAVING count(*) > 0
        UNION ALL
        SELECT 6, format('%s events have no position yet', count(*)) FROM events_inbox AS i
        WHERE i.id < v_to HAVING count(*) > 0
        UNION ALL
        SELECT 7, format('consumer %s has not taken its events', c.consumer) FROM event_consumers AS c
        WHERE c.position < v_last
        UNION ALL
        SELECT 8, format('%s dead letters about its events are open', count(*)) FROM dead_letters AS d
        WHERE d.source IN ('events', 'webhooks') AND d.settled_at IS NULL
            AND coalesce(d.payload #>> '{event,id}', d.payload ->> 'event_id')::uuid < v_to
        HAVING count(*) > 0
        UNION ALL
        -- What is delivered is read from the event.
        SELECT 9, format('%s deliveries to webhooks wait', count(*)) FROM webhook_deliveries AS d
        WHERE d.ended_at IS NULL AND d.event_id < v_to HAVING count(*) > 0
        UNION ALL
        SELECT 10, format('its events are replayed to %s', w.name) FROM webhook_endpoints AS w
        WHERE w.replay_position <= v_last
        UNION ALL
        SELECT 11, format('%s movements are of orders of a later month', count(*)) FROM stock_movements AS m
        WHERE m.id >= v_from AND m.id < v_to AND m.order_id >= v_to HAVING count(*) > 0
    ) AS reasons);
END
$$;

COMMENT ON FUNCTION shop.reasons_to_keep(date) IS
'Why the partitions of a month may not be retired yet; none when they may.';
