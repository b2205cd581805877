-- The peer of the rows beside pgbench: what a good developer would write by hand for the same shop with the same
-- promises, one order a call. It stores a key with its answer, so that an order sent twice is placed once; locks the
-- levels in the one global order, so that no two calls deadlock; takes by the priority of locations, then backorders;
-- writes the order, its lines, allocations, movements and levels; emits the events of levels that cross a threshold.
-- History and the order's event come from the shop's own triggers. `api.verify` finds nothing afterwards.
--
-- Left out: it does not check the form of a request (unknown fields, types, lengths, version) beyond what a cast
-- refuses with an error, knows no address, and of several reasons gives the one of the first variant.
--
-- Tuned: no SET clause, which each call would pay for, so names are qualified; nothing to undo on a rejection, so no
-- subtransaction; every statement keeps its plan, and lines are looked up by index whatever a list of JSON looks like.
CREATE OR REPLACE FUNCTION bench.tell_crossings(
    p_variant_id bigint, p_location_id integer, p_before bigint, p_now bigint, p_threshold bigint
) RETURNS void
LANGUAGE sql
AS $$
    INSERT INTO shop.events_inbox (id, stream, kind, payload)
    SELECT shop.uuid7(), 'stock:' || p_variant_id || ':' || p_location_id, c.kind, jsonb_build_object(
        'variant_id', p_variant_id, 'location_id', p_location_id, 'available', p_now, 'before', p_before,
        'threshold', p_threshold)
    FROM (VALUES
        ('stock.low', p_before > p_threshold AND p_now <= p_threshold), ('stock.out', p_before > 0 AND p_now <= 0)
    ) AS c (kind, crossed)
    WHERE c.crossed
$$;

CREATE OR REPLACE FUNCTION bench.place_by_hand(p_body text) RETURNS jsonb
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
    v_level record;
    v_left bigint;
    v_take bigint;
    v_available bigint;
    v_total bigint := 0;
    v_answer jsonb;
    -- Of each line.
    v_numbers integer[] := '{}';
    v_variants bigint[] := '{}';
    v_quantities bigint[] := '{}';
    v_prices bigint[] := '{}';
    v_backordered bigint[] := '{}';
    -- Of each level that was locked; of one that gives nothing, 0.
    v_from integer[] := '{}';
    v_locations integer[] := '{}';
    v_taken bigint[] := '{}';
    v_spare bigint[] := '{}';
    v_thresholds bigint[] := '{}';
    v_first integer;
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

    -- Everything is locked and checked before anything is written: a rejection has nothing to undo.
    FOR v_line IN
        SELECT l.sku, l.quantity, v.id, v.price_amount, v.active AND v.currency = v_pool.currency AS sold,
            row_number() OVER (ORDER BY l.n) AS line_no
        FROM (
            SELECT r ->> 'sku' AS sku, sum((r ->> 'quantity')::bigint)::bigint AS quantity, min(n) AS n
            FROM jsonb_array_elements(v_request -> 'lines') WITH ORDINALITY AS lines (r, n) GROUP BY 1
        ) AS l
        -- LIMIT: a lookup by index for each line, whatever the planner thinks of a list of JSON.
        LEFT JOIN LATERAL (SELECT * FROM shop.product_variants AS p WHERE p.sku = l.sku LIMIT 1) AS v ON true
        ORDER BY v.id
    LOOP
        IF v_line.sold IS NOT TRUE THEN
            RETURN shop.reject_key(v_key, 'OM002', format('lines[%s].sku', v_line.line_no - 1),
                format('Sku %s is not for sale here.', v_line.sku));
        END IF;
        v_left := v_line.quantity;
        v_first := cardinality(v_from) + 1;
        FOR v_level IN
            SELECT * FROM (
                SELECT l.location_id, l.available, l.oversell_cap, p.priority, coalesce(l.low_stock_threshold, (
                    SELECT c.low_stock_threshold FROM shop.product_variants AS v
                    JOIN shop.products AS t ON t.id = v.product_id JOIN shop.categories AS c ON c.id = t.category_id
                    WHERE v.id = l.variant_id)) AS low_stock_threshold
                FROM shop.stock_levels AS l JOIN shop.locations AS p ON p.id = l.location_id
                WHERE l.variant_id = v_line.id AND p.pool_id = v_pool.id
                ORDER BY l.location_id FOR NO KEY UPDATE OF l
            ) AS locked ORDER BY priority
        LOOP
            v_take := least(v_left, greatest(v_level.available, 0));
            v_left := v_left - v_take;
            v_from := v_from || cardinality(v_variants) + 1;
            v_locations := v_locations || v_level.location_id;
            v_taken := v_taken || v_take;
            v_spare := v_spare || v_level.oversell_cap + least(v_level.available, 0);
            v_thresholds := v_thresholds || v_level.low_stock_threshold;
        END LOOP;
        v_backordered := v_backordered || v_left;
        FOR s IN v_first .. cardinality(v_from) LOOP
            EXIT WHEN v_left = 0;
            v_take := least(v_left, v_spare[s]);
            v_taken[s] := v_taken[s] + v_take;
            v_left := v_left - v_take;
        END LOOP;
        IF v_left > 0 THEN
            RETURN shop.reject_key(v_key, 'OM001', format('lines[%s].quantity', v_line.line_no - 1),
                shop.insufficient_stock(v_line.quantity - v_left, v_line.quantity, v_line.sku, v_pool.code));
        END IF;
        v_numbers := v_numbers || v_line.line_no::integer;
        v_variants := v_variants || v_line.id;
        v_quantities := v_quantities || v_line.quantity;
        v_prices := v_prices || v_line.price_amount;
        v_total := v_total + v_line.price_amount * v_line.quantity;
    END LOOP;
    IF v_variants = '{}' THEN
        RETURN shop.reject_key(v_key, 'OM008', 'lines', 'Give at least one line with a sku and a quantity.');
    END IF;

    INSERT INTO shop.orders (id, key, customer_id, pool_id, status, currency, total_amount, ordered_at)
    VALUES (v_order_id, v_key, v_customer_id, v_pool.id, 'placed', v_pool.currency, v_total,
        coalesce((v_request ->> 'ordered_at')::timestamptz, now()));
    FOR i IN 1 .. cardinality(v_variants) LOOP
        INSERT INTO shop.order_lines (
            id, order_id, line_no, variant_id, quantity, backordered, unit_amount, total_amount, currency)
        VALUES (shop.part_id(v_order_id, v_numbers[i]), v_order_id, v_numbers[i], v_variants[i], v_quantities[i],
            v_backordered[i], v_prices[i], v_prices[i] * v_quantities[i], v_pool.currency);
    END LOOP;
    FOR s IN 1 .. cardinality(v_from) LOOP
        CONTINUE WHEN v_taken[s] = 0;
        INSERT INTO shop.order_allocations (id, order_id, line_id, variant_id, location_id, quantity, state)
        VALUES (shop.part_id(v_order_id, s), v_order_id, shop.part_id(v_order_id, v_numbers[v_from[s]]),
            v_variants[v_from[s]], v_locations[s], v_taken[s], 'committed');
        INSERT INTO shop.stock_movements (id, variant_id, from_location_id, from_account, to_location_id, to_account,
            quantity, cause, order_id, request_key)
        VALUES (shop.uuid7(), v_variants[v_from[s]], v_locations[s], 'available', v_locations[s], 'committed',
            v_taken[s], 'order.placed', v_order_id, v_key);
        UPDATE shop.stock_levels SET available = available - v_taken[s], committed = committed + v_taken[s]
        WHERE variant_id = v_variants[v_from[s]] AND location_id = v_locations[s]
        RETURNING available INTO v_available;
        IF v_available <= v_thresholds[s] THEN
            PERFORM bench.tell_crossings(
                v_variants[v_from[s]], v_locations[s], v_available + v_taken[s], v_available, v_thresholds[s]);
        END IF;
    END LOOP;

    v_answer := shop.outcome(v_key, 'placed', v_order_id, NULL, NULL, NULL);
    UPDATE shop.request_keys SET status = 'placed', answer = v_answer, decided_at = clock_timestamp() WHERE key = v_key;
    RETURN v_answer;
END
$$;
