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
    v_demand order_demand[];
    v_shares order_share[];
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
    SELECT h.* INTO v_head FROM unnest(resolve_heads(ARRAY[v_request], ARRAY[NULL::jsonb])) AS h;
    IF v_head.code IS NULL THEN
        v_demand := resolve_lines(ARRAY[v_request], ARRAY[v_head]);
        v_head := (check_catalog(ARRAY[v_head], v_demand))[1];
    END IF;
    IF v_head.code IS NULL THEN
        PERFORM lock_stock(array_agg(d.variant_id), array_agg(l.id))
        FROM unnest(v_demand) AS d JOIN locations AS l ON l.pool_id = d.pool_id;
        -- One order needs no walk and no running sums over others: the shares say whether it can be served.
        v_shares := split_demand(v_demand);
        SELECT 'OM001', format('lines[%s].quantity', d.field_no),
            insufficient_stock(coalesce(s.quantity, 0)::bigint, d.quantity, d.sku, v_head.pool)
        INTO v_head.code, v_head.field, v_head.message
        FROM unnest(v_demand) AS d
        LEFT JOIN (SELECT line_no, sum(quantity) AS quantity FROM unnest(v_shares) GROUP BY line_no) AS s USING (line_no)
        WHERE coalesce(s.quantity, 0) < d.quantity
        ORDER BY d.line_no LIMIT 1;
    END IF;
    IF v_head.code IS NOT NULL THEN
        RETURN reject_key(v_request.key, v_head.code, v_head.field, v_head.message);
    END IF;
    PERFORM write_orders(ARRAY[v_head], v_demand, v_shares, 'placed', NULL);
    RETURN decide_key(v_request.key, 'placed', outcome(v_request.key, 'placed', v_head.order_id, NULL, NULL, NULL));
END
$$;

COMMENT ON FUNCTION api.place_order IS
'The same as api.place_orders for one order, by a shorter way: no walk, and its shares tell what is missing.';
