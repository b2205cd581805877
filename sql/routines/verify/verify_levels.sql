CREATE OR REPLACE FUNCTION shop.verify_levels() RETURNS TABLE (check_name text, entry text, detail jsonb)
LANGUAGE sql STABLE
SET search_path = shop, pg_temp
AS $$
    WITH entries AS (
        SELECT variant_id, from_location_id AS location_id, from_account AS account, -quantity AS quantity
        FROM stock_movements WHERE from_location_id IS NOT NULL AND id >= (SELECT retired_below())
        UNION ALL
        SELECT variant_id, to_location_id, to_account, quantity
        FROM stock_movements WHERE to_location_id IS NOT NULL AND id >= (SELECT retired_below())
    ), unretired AS (
        SELECT variant_id, location_id,
            coalesce(sum(quantity) FILTER (WHERE account = 'available'), 0) AS available,
            coalesce(sum(quantity) FILTER (WHERE account = 'held'), 0) AS held,
            coalesce(sum(quantity) FILTER (WHERE account = 'committed'), 0) AS committed,
            coalesce(sum(quantity) FILTER (WHERE account = 'unavailable'), 0) AS unavailable,
            coalesce(sum(quantity) FILTER (WHERE account = 'incoming'), 0) AS incoming,
            coalesce(sum(quantity) FILTER (WHERE account = 'in_transit'), 0) AS in_transit
        FROM entries GROUP BY variant_id, location_id
    ), moved AS (
        SELECT variant_id, location_id, sum(available) AS available, sum(held) AS held, sum(committed) AS committed,
            sum(unavailable) AS unavailable, sum(incoming) AS incoming, sum(in_transit) AS in_transit
        FROM (
            SELECT * FROM unretired
            UNION ALL
            SELECT variant_id, location_id, available, held, committed, unavailable, incoming, in_transit
            FROM opening_balances
        ) AS u GROUP BY variant_id, location_id
    )
    SELECT 'level_is_its_movements', coalesce(v.sku, variant_id::text) || ' at ' || coalesce(p.code, location_id::text),
        jsonb_build_object(
            'expected', jsonb_build_array(m.available, m.held, m.committed, m.unavailable, m.incoming, m.in_transit),
            'found', jsonb_build_array(l.available, l.held, l.committed, l.unavailable, l.incoming, l.in_transit),
            'accounts', 'available, held, committed, unavailable, incoming, in_transit')
    FROM stock_levels AS l
    FULL JOIN moved AS m USING (variant_id, location_id)
    LEFT JOIN product_variants AS v ON v.id = variant_id
    LEFT JOIN locations AS p ON p.id = location_id
    WHERE coalesce(l.available, 0) <> coalesce(m.available, 0) OR coalesce(l.held, 0) <> coalesce(m.held, 0)
        OR coalesce(l.committed, 0) <> coalesce(m.committed, 0)
        OR coalesce(l.unavailable, 0) <> coalesce(m.unavailable, 0)
        OR coalesce(l.incoming, 0) <> coalesce(m.incoming, 0) OR coalesce(l.in_transit, 0) <> coalesce(m.in_transit, 0)
        OR l.available < -l.oversell_cap
    ORDER BY variant_id, location_id
$$;

COMMENT ON FUNCTION shop.verify_levels() IS
'Stock levels that are not the sum of their movements, the retired ones as their opening balance.';
