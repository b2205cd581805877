CREATE OR REPLACE FUNCTION shop.begin_retiring(p_month date) RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = shop, pg_temp
AS $$
DECLARE
    v_from uuid := uuid7_floor(p_month::timestamp AT TIME ZONE 'UTC');
    v_to uuid := uuid7_floor((p_month + interval '1 month') AT TIME ZONE 'UTC');
    v_reasons text[];
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('ordermill.partitions'));
    IF EXISTS (SELECT FROM retirements AS r WHERE r.month = p_month) THEN
        UPDATE retirements AS r SET finished_at = NULL WHERE r.month = p_month;
        RETURN false;
    END IF;
    IF NOT EXISTS (SELECT FROM parts_of_month(p_month)) THEN
        RAISE EXCEPTION '% has no partitions: there is nothing to retire', to_char(p_month, 'YYYY-MM')
            USING ERRCODE = 'OM050';
    END IF;
    v_reasons := reasons_to_keep(p_month);
    IF cardinality(v_reasons) > 0 THEN
        RAISE EXCEPTION '% cannot be retired: %', to_char(p_month, 'YYYY-MM'), array_to_string(v_reasons, '; ')
            USING ERRCODE = 'OM050';
    END IF;
    -- With the row of retirements in one transaction: `verify` sees either the movements or their sum.
    WITH entries AS (
        SELECT m.variant_id, m.from_location_id AS location_id, m.from_account AS account, -m.quantity AS quantity
        FROM stock_movements AS m WHERE m.id >= v_from AND m.id < v_to AND m.from_location_id IS NOT NULL
        UNION ALL
        SELECT m.variant_id, m.to_location_id, m.to_account, m.quantity
        FROM stock_movements AS m WHERE m.id >= v_from AND m.id < v_to AND m.to_location_id IS NOT NULL
    )
    INSERT INTO opening_balances AS b
    SELECT variant_id, location_id,
        coalesce(sum(quantity) FILTER (WHERE account = 'available'), 0),
        coalesce(sum(quantity) FILTER (WHERE account = 'held'), 0),
        coalesce(sum(quantity) FILTER (WHERE account = 'committed'), 0),
        coalesce(sum(quantity) FILTER (WHERE account = 'unavailable'), 0),
        coalesce(sum(quantity) FILTER (WHERE account = 'incoming'), 0),
        coalesce(sum(quantity) FILTER (WHERE account = 'in_transit'), 0)
    FROM entries GROUP BY variant_id, location_id
    ON CONFLICT ON CONSTRAINT opening_balances_pkey DO UPDATE SET
        available = b.available + excluded.available, held = b.held + excluded.held,
        committed = b.committed + excluded.committed, unavailable = b.unavailable + excluded.unavailable,
        incoming = b.incoming + excluded.incoming, in_transit = b.in_transit + excluded.in_transit;
    INSERT INTO retirements (month, events_through) VALUES (p_month, greatest(
        (SELECT max(e.position) FROM events AS e WHERE e.id >= v_from AND e.id < v_to),
        (SELECT max(r.events_through) FROM retirements AS r), 0));
    RETURN true;
END
$$;

COMMENT ON FUNCTION shop.begin_retiring(date) IS
'Writes the opening balances and the anchor of events of a month, once, so that its partitions may go; OM050 while something still needs it, and for a month without partitions.';
