CREATE OR REPLACE FUNCTION shop.decide_orders(
    p_requests shop.order_request[], p_kind text, p_status text, p_expires_at timestamptz,
    p_terms text DEFAULT '', p_claim shop.claims DEFAULT NULL
) RETURNS SETOF jsonb
LANGUAGE plpgsql VOLATILE ROWS 100
SET search_path = shop, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
DECLARE
    v_known jsonb[];
    v_heads order_head[];
    v_chosen order_head[];
    v_demand order_demand[];
    v_ample stock_levels[];
    v_levels stock_levels[];
    v_shares order_share[];
    v_moves stock_move[];
BEGIN
    IF coalesce(cardinality(p_requests), 0) = 0 THEN
        RETURN;
    END IF;
    v_known := take_order_keys(p_requests, p_kind, p_terms);
    v_heads := resolve_heads(p_requests, v_known);
    v_demand := resolve_lines(p_requests, v_heads);
    IF EXISTS (SELECT FROM unnest(v_demand) AS d WHERE d.unit_amount IS NULL) THEN
        v_heads := check_catalog(v_heads, v_demand);
        v_demand := demand_of_good(v_heads, v_demand);
    END IF;
    IF cardinality(v_demand) > 0 THEN
        -- Levels are locked as late as can be, for others wait for them: where there is plenty, last of all. A hold is
        -- placed in its caller's own transaction, which must not be told to try again.
        v_ample := CASE WHEN p_status = 'placed' THEN ample_levels(v_demand, p_claim) END;
        v_levels := v_ample;
        IF v_ample IS NULL THEN
            IF p_claim.id IS NOT NULL THEN
                PERFORM await_earlier_claims(p_claim);
            END IF;
            SELECT lock_stock(array_agg(d.variant_id), array_agg(l.id)) INTO v_levels
            FROM unnest(v_demand) AS d JOIN locations AS l ON l.pool_id = d.pool_id;
            v_chosen := choose_orders(v_heads, v_demand, v_levels);
            IF v_chosen IS NOT NULL THEN
                v_heads := v_chosen;
                v_demand := demand_of_good(v_heads, v_demand);
            END IF;
        END IF;
        IF cardinality(v_demand) > 0 THEN
            v_shares := split_demand(v_demand, v_levels);
            SELECT write_orders(array_agg(h), v_demand, v_shares, p_status, p_expires_at) INTO v_moves
            FROM unnest(v_heads) AS h WHERE h.code IS NULL;
        END IF;
    END IF;

    UPDATE request_keys AS k SET
        status = CASE WHEN h.code IS NULL THEN p_status ELSE 'rejected' END,
        answer = outcome(h.key, CASE WHEN h.code IS NULL THEN p_status ELSE 'rejected' END,
            CASE WHEN h.code IS NULL THEN h.order_id END, h.code, h.field, h.message),
        decided_at = clock_timestamp()
    FROM unnest(v_heads) AS h
    WHERE k.key = h.key AND k.status = 'pending';

    RETURN QUERY
    SELECT coalesce(CASE WHEN v_known[r.n] ? 'twin_of' THEN NULL ELSE v_known[r.n] END, k.answer)
    FROM unnest(p_requests) WITH ORDINALITY AS r (
        key, customer, pool, currency, ordered_at, ship_to, skus, quantities, n)
    JOIN request_keys AS k ON k.key = r.key
    ORDER BY r.n;

    IF v_ample IS NOT NULL THEN
        PERFORM take_stock(v_shares);
    END IF;
    PERFORM apply_movements(v_moves) WHERE v_moves IS NOT NULL;
END
$$;

COMMENT ON FUNCTION shop.decide_orders(shop.order_request[], text, text, timestamptz, text, shop.claims) IS
'Decides a batch in one transaction, first come first served, set by set: keys, names, stock, then all writes. One bad order never fails the others. Gives an outcome each, in order.';
