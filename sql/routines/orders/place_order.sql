CREATE OR REPLACE FUNCTION api.place_order(p_request jsonb) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = shop, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
DECLARE
    v_request order_request := jsonb_populate_record(NULL::order_request, p_request);
    v_hash bytea := request_hash('order.place', v_request);
    v_known request_keys;
    v_head order_head;
    v_lines order_demand[];
    v_locked stock_levels[];
    v_shares order_share[];
    v_problems problem[];
    v_problem problem;
BEGIN
    INSERT INTO request_keys (key, kind, body_hash) VALUES (v_request.key, 'order.place', v_hash)
    ON CONFLICT (key) DO NOTHING;
    IF NOT FOUND THEN
        SELECT * INTO v_known FROM request_keys WHERE key = v_request.key FOR UPDATE;
        IF v_known.key IS NULL THEN
            RAISE serialization_failure USING MESSAGE = 'the key was pruned just now; try again';
        ELSIF v_known.body_hash <> v_hash THEN
            RETURN key_conflict(v_request.key);
        ELSIF v_known.answer IS NOT NULL THEN
            RETURN v_known.answer;
        END IF;
    END IF;
    v_head := (resolve_heads(ARRAY[v_request], ARRAY[NULL::jsonb]))[1];
    IF v_head.code IS NULL THEN
        -- Each sku once, at its price, with the first thing that the catalog has against it.
        SELECT array_agg(ROW(1, l.i, l.n - 1, l.sku, v.id, v_head.pool_id, l.quantity, v.price_amount)::order_demand
                ORDER BY l.i),
            array_agg(line_problem(v, l.sku, l.quantity, l.n - 1, v_head.currency) ORDER BY l.i)
                FILTER (WHERE v.id IS NULL OR NOT v.active OR v.currency <> v_head.currency OR l.quantity > 1000000)
        INTO v_lines, v_problems
        FROM (
            SELECT u.sku, min(u.n) AS n, sum(u.quantity) AS quantity, row_number() OVER (ORDER BY min(u.n)) AS i
            FROM unnest(v_request.skus, v_request.quantities) WITH ORDINALITY AS u (sku, quantity, n) GROUP BY u.sku
        ) AS l
        LEFT JOIN product_variants AS v ON v.sku = l.sku;
        v_problem := v_problems[1];
        IF v_problem.code IS NULL THEN
            SELECT lock_stock(array_agg(d.variant_id), array_agg(p.id)) INTO v_locked
            FROM unnest(v_lines) AS d JOIN locations AS p ON p.pool_id = v_head.pool_id;
            v_shares := split_line(v_lines, v_locked);
            SELECT 'OM001', format('lines[%s].quantity', d.field_no),
                insufficient_stock(coalesce(s.quantity, 0)::bigint, d.quantity, d.sku, v_head.pool)
            INTO v_problem
            FROM unnest(v_lines) AS d
            LEFT JOIN (SELECT line_no, sum(quantity) AS quantity FROM unnest(v_shares) GROUP BY line_no) AS s
                USING (line_no)
            WHERE coalesce(s.quantity, 0) < d.quantity
            ORDER BY d.line_no LIMIT 1;
        END IF;
        v_head.code := v_problem.code;
        v_head.field := v_problem.field;
        v_head.message := v_problem.message;
    END IF;
    IF v_head.code IS NOT NULL THEN
        RETURN reject_key(v_request.key, v_head.code, v_head.field, v_head.message);
    END IF;
    PERFORM write_order(v_head, v_lines, v_shares);
    RETURN decide_key(v_request.key, 'placed', outcome(v_request.key, 'placed', v_head.order_id, NULL, NULL, NULL));
END
$$;

COMMENT ON FUNCTION api.place_order(jsonb) IS
'The same as api.place_orders for one order, by a shorter way: no walk, no running sums over other orders, one insert.';
