CREATE OR REPLACE FUNCTION shop.reasons_to_keep(p_month date) RETURNS text[]
LANGUAGE plpgsql STABLE
SET search_path = shop, pg_temp
AS $$
DECLARE
    v_from uuid := uuid7_floor(p_month::timestamp AT TIME ZONE 'UTC');
    v_to uuid := uuid7_floor((p_month + interval '1 month') AT TIME ZONE 'UTC');
    v_keep interval := kept_for('partitions');
    v_last bigint := (SELECT max(e.position) FROM events AS e WHERE e.id >= v_from AND e.id < v_to);
BEGIN
    RETURN (SELECT coalesce(array_agg(reason ORDER BY place), '{}') FROM (
        SELECT 1 AS place, format('it is kept until %s', (p_month + interval '1 month' + v_keep)::date) AS reason
        WHERE p_month + interval '1 month' + v_keep > date_trunc('month', now() AT TIME ZONE 'UTC')
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
        WHERE d.source = 'events' AND d.settled_at IS NULL AND (d.payload #>> '{event,id}')::uuid < v_to
        HAVING count(*) > 0
        UNION ALL
        SELECT 9, format('%s movements are of orders of a later month', count(*)) FROM stock_movements AS m
        WHERE m.id >= v_from AND m.id < v_to AND m.order_id >= v_to HAVING count(*) > 0
    ) AS reasons);
END
$$;

COMMENT ON FUNCTION shop.reasons_to_keep(date) IS
'Why the partitions of a month may not be retired yet; none when they may.';
