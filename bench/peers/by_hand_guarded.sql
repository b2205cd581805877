-- The peer of `hot_sku_vs_guarded`: the same writes as bench.place_by_hand, but no level is locked beforehand. A sold-out
-- order is found by a plain read; the level is taken last, by an UPDATE that is guarded by what is there, so that the
-- hot row is locked for as short as can be. Where the guard fails, somebody was quicker: the whole call is tried again
-- (pgbench --max-tries), and its read then finds nothing left.
--
-- Left out, beside what place_by_hand leaves out: a line is served by one location or not at all, and nothing is
-- backordered.
CREATE OR REPLACE FUNCTION bench.place_guarded(p_body text) RETURNS jsonb
LANGUAGE plpgsql
AS $$
DECLARE
    v_request jsonb := p_body::jsonb;
    v_key text := v_request ->> 'key';
    v_hash bytea := sha256(convert_to((v_request - 'key')::text, 'UTF8'));
    v_known shop.request_keys;
    v_order_id uuid := shop.new_order_id();
    v_customer_id bigint;
    v_pool shop.pools;
    v_line record;
    v_location_id integer;
    v_available bigint;
    v_threshold bigint;
    v_total bigint := 0;
    v_answer jsonb;
    v_variants bigint[] := '{}';
    v_quantities bigint[] := '{}';
    v_prices bigint[] := '{}';
    v_locations integer[] := '{}';
BEGIN
    INSERT INTO shop.request_keys (key, kind, body_hash) VALUES (v_key, 'order.place', v_hash)
    ON CONFLICT (key) DO NOTHING;
    IF NOT FOUND THEN
        SELECT * INTO v_known FROM shop.request_keys WHERE key = v_key FOR UPDATE;
        IF v_known.body_hash <> v_hash THEN
            RETURN shop.key_conflict(v_key);
        ELSIF v_known.answer IS NOT NULL THEN
            RETURN v_known.answer;
        END IF;
    END IF;
    SELECT id INTO v_customer_id FROM shop.customers WHERE number = v_request ->> 'customer';
    IF NOT FOUND THEN
        RETURN shop.reject_key(v_key, 'OM003', 'customer', 'There is no such customer.');
    END IF;
    SELECT * INTO v_pool FROM shop.pools WHERE code = v_request ->> 'pool';
    IF NOT FOUND THEN
        RETURN shop.reject_key(v_key, 'OM004', 'pool', 'There is no such pool.');
    END IF;
    FOR v_line IN
        SELECT l.sku, l.quantity, v.id, v.price_amount, v.active AND v.currency = v_pool.currency AS sold,
            row_number() OVER (ORDER BY v.id) AS line_no
        FROM (
            SELECT r ->> 'sku' AS sku, sum((r ->> 'quantity')::bigint)::bigint AS quantity
            FROM jsonb_array_elements(v_request -> 'lines') AS r GROUP BY 1
        ) AS l
        LEFT JOIN LATERAL (SELECT * FROM shop.product_variants AS p WHERE p.sku = l.sku LIMIT 1) AS v ON true
        ORDER BY v.id
    LOOP
        IF v_line.sold IS NOT TRUE THEN
            RETURN shop.reject_key(v_key, 'OM002', format('lines[%s].sku', v_line.line_no - 1),
                format('Sku %s is not for sale here.', v_line.sku));
        END IF;
        SELECT l.location_id INTO v_location_id
        FROM shop.stock_levels AS l JOIN shop.locations AS p ON p.id = l.location_id
        WHERE l.variant_id = v_line.id AND p.pool_id = v_pool.id AND l.available >= v_line.quantity
        ORDER BY p.priority LIMIT 1;
        IF NOT FOUND THEN
            RETURN shop.reject_key(v_key, 'OM001', format('lines[%s].quantity', v_line.line_no - 1),
                shop.insufficient_stock(0, v_line.quantity, v_line.sku, v_pool.code));
        END IF;
        v_variants := v_variants || v_line.id;
        v_quantities := v_quantities || v_line.quantity;
        v_prices := v_prices || v_line.price_amount;
        v_locations := v_locations || v_location_id;
        v_total := v_total + v_line.price_amount * v_line.quantity;
    END LOOP;
    IF v_variants = '{}' THEN
        RETURN shop.reject_key(v_key, 'OM008', 'lines', 'Give at least one line with a sku and a quantity.');
    END IF;

    INSERT INTO shop.orders (id, key, customer_id, pool_id, status, currency, total_amount, ordered_at)
    VALUES (v_order_id, v_key, v_customer_id, v_pool.id, 'placed', v_pool.currency, v_total,
        coalesce((v_request ->> 'ordered_at')::timestamptz, now()));
    FOR i IN 1 .. cardinality(v_variants) LOOP
        INSERT INTO shop.order_lines (id, order_id, line_no, variant_id, quantity, unit_amount, total_amount, currency)
        VALUES (shop.part_id(v_order_id, i), v_order_id, i, v_variants[i], v_quantities[i], v_prices[i],
            v_prices[i] * v_quantities[i], v_pool.currency);
        INSERT INTO shop.order_allocations (id, order_id, line_id, variant_id, location_id, quantity, state)
        VALUES (shop.part_id(v_order_id, i), v_order_id, shop.part_id(v_order_id, i), v_variants[i], v_locations[i],
            v_quantities[i], 'committed');
        INSERT INTO shop.stock_movements (id, variant_id, from_location_id, from_account, to_location_id, to_account,
            quantity, cause, order_id, request_key)
        VALUES (shop.uuid7(), v_variants[i], v_locations[i], 'available', v_locations[i], 'committed', v_quantities[i],
            'order.placed', v_order_id, v_key);
    END LOOP;
    v_answer := shop.outcome(v_key, 'placed', v_order_id, NULL, NULL, NULL);
    UPDATE shop.request_keys SET status = 'placed', answer = v_answer, decided_at = clock_timestamp() WHERE key = v_key;

    -- In the order of variants, so that no two calls deadlock.
    FOR i IN 1 .. cardinality(v_variants) LOOP
        UPDATE shop.stock_levels AS l
        SET available = available - v_quantities[i], committed = committed + v_quantities[i]
        WHERE l.variant_id = v_variants[i] AND l.location_id = v_locations[i] AND l.available >= v_quantities[i]
        RETURNING l.available, coalesce(l.low_stock_threshold, (
            SELECT c.low_stock_threshold FROM shop.product_variants AS v
            JOIN shop.products AS t ON t.id = v.product_id JOIN shop.categories AS c ON c.id = t.category_id
            WHERE v.id = l.variant_id))
        INTO v_available, v_threshold;
        IF NOT FOUND THEN
            RAISE serialization_failure USING MESSAGE = 'somebody was quicker; try again';
        ELSIF v_available <= v_threshold THEN
            PERFORM bench.tell_crossings(
                v_variants[i], v_locations[i], v_available + v_quantities[i], v_available, v_threshold);
        END IF;
    END LOOP;
    RETURN v_answer;
END
$$;
