CREATE OR REPLACE FUNCTION shop.apply_movements(p_moves shop.stock_move[]) RETURNS integer
LANGUAGE plpgsql VOLATILE
SET search_path = shop, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
DECLARE
    v_touched integer;
    v_changed integer;
BEGIN
    WITH moves AS (
        INSERT INTO stock_movements (
            id, variant_id, from_location_id, from_account, to_location_id, to_account, quantity, cause, order_id,
            request_key, reason)
        SELECT shop.uuid7(), m.variant_id, m.from_location_id, m.from_account, m.to_location_id, m.to_account, m.quantity,
            m.cause, m.order_id, m.request_key, m.reason
        FROM unnest(p_moves) AS m
        RETURNING variant_id, from_location_id, from_account, to_location_id, to_account, quantity
    ), entries AS (
        SELECT variant_id, from_location_id AS location_id, from_account AS account, -quantity AS quantity FROM moves
        WHERE from_location_id IS NOT NULL
        UNION ALL
        SELECT variant_id, to_location_id, to_account, quantity FROM moves WHERE to_location_id IS NOT NULL
    ), deltas AS (
        SELECT variant_id, location_id,
            coalesce(sum(quantity) FILTER (WHERE account = 'available'), 0) AS available,
            coalesce(sum(quantity) FILTER (WHERE account = 'held'), 0) AS held,
            coalesce(sum(quantity) FILTER (WHERE account = 'committed'), 0) AS committed,
            coalesce(sum(quantity) FILTER (WHERE account = 'unavailable'), 0) AS unavailable,
            coalesce(sum(quantity) FILTER (WHERE account = 'incoming'), 0) AS incoming,
            coalesce(sum(quantity) FILTER (WHERE account = 'in_transit'), 0) AS in_transit
        FROM entries GROUP BY variant_id, location_id
    ), levels AS (
        UPDATE stock_levels AS l SET
            available = l.available + d.available, held = l.held + d.held, committed = l.committed + d.committed,
            unavailable = l.unavailable + d.unavailable, incoming = l.incoming + d.incoming,
            in_transit = l.in_transit + d.in_transit
        FROM deltas AS d
        WHERE l.variant_id = d.variant_id AND l.location_id = d.location_id
        RETURNING l.variant_id, l.location_id, l.available AS now, l.available - d.available AS before,
            coalesce(l.low_stock_threshold, (
                SELECT c.low_stock_threshold FROM product_variants AS v
                JOIN products AS p ON p.id = v.product_id JOIN categories AS c ON c.id = p.category_id
                WHERE v.id = l.variant_id)) AS threshold
    ), crossings AS (
        INSERT INTO events_inbox (id, stream, kind, payload)
        SELECT shop.uuid7(), 'stock:' || l.variant_id || ':' || l.location_id, c.kind, jsonb_build_object(
            'variant_id', l.variant_id, 'location_id', l.location_id, 'available', l.now, 'before', l.before,
            'threshold', l.threshold)
        FROM levels AS l
        CROSS JOIN LATERAL (VALUES
            ('stock.low', l.before > l.threshold AND l.now <= l.threshold),
            ('stock.out', l.before > 0 AND l.now <= 0),
            ('stock.recovered', l.before <= l.threshold AND l.now > l.threshold)
        ) AS c (kind, crossed)
        WHERE c.crossed
    )
    SELECT (SELECT count(*) FROM deltas), (SELECT count(*) FROM levels) INTO v_touched, v_changed;
    IF v_touched <> v_changed THEN
        RAISE EXCEPTION 'a movement names a variant and location that have no stock level'
            USING ERRCODE = 'OM022', HINT = 'Receive stock there first.';
    END IF;
    RETURN cardinality(p_moves);
END
$$;

COMMENT ON FUNCTION shop.apply_movements(shop.stock_move[]) IS
'The only writer of movements and levels, in one statement, so that they cannot differ; a level that crosses its threshold or zero emits an event. The levels must be locked (shop.lock_stock).';
