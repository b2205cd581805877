CREATE OR REPLACE FUNCTION shop.choose_orders(
    p_heads shop.order_head[], p_demand shop.order_demand[], p_locked shop.stock_levels[]
) RETURNS shop.order_head[]
LANGUAGE plpgsql STABLE
SET search_path = shop, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
DECLARE
    v_heads order_head[] := p_heads;
    v_left bigint[];
    v_short jsonb;
    v_order record;
    v_fails integer;
BEGIN
    -- Only a pair asked for beyond its supply can reject anybody; the rest needs no walk.
    SELECT array_agg(supply ORDER BY variant_id, pool_id), jsonb_object_agg(variant_id || ':' || pool_id, i)
    INTO v_left, v_short
    FROM (
        SELECT d.variant_id, d.pool_id, coalesce(s.supply, 0) AS supply,
            row_number() OVER (ORDER BY d.variant_id, d.pool_id) AS i
        FROM (SELECT variant_id, pool_id, sum(quantity) AS demand FROM unnest(p_demand) GROUP BY 1, 2) AS d
        LEFT JOIN (
            SELECT l.variant_id, p.pool_id, sum(l.available + l.oversell_cap) AS supply
            FROM unnest(p_locked) AS l
            JOIN locations AS p ON p.id = l.location_id
            GROUP BY l.variant_id, p.pool_id
        ) AS s ON s.variant_id = d.variant_id AND s.pool_id = d.pool_id
        WHERE d.demand > coalesce(s.supply, 0)
    ) AS short;
    IF v_left IS NULL THEN
        RETURN NULL;
    END IF;
    -- First come first served, by arithmetic: a rejected order gives its units to those behind it, so one prefix sum
    -- over the batch would reject orders that can be served.
    FOR v_order IN
        SELECT h.i, array_agg((v_short ->> (d.variant_id || ':' || d.pool_id))::integer ORDER BY d.line_no) AS pairs,
            array_agg(d.quantity ORDER BY d.line_no) AS quantities, array_agg(d.field_no ORDER BY d.line_no) AS fields,
            array_agg(d.sku ORDER BY d.line_no) AS skus
        FROM unnest(p_demand) AS d
        JOIN (SELECT ord, row_number() OVER () AS i FROM unnest(p_heads)) AS h ON h.ord = d.ord
        WHERE v_short ? (d.variant_id || ':' || d.pool_id)
        GROUP BY h.i ORDER BY h.i
    LOOP
        SELECT min(g) INTO v_fails FROM generate_subscripts(v_order.pairs, 1) AS g
        WHERE v_left[v_order.pairs[g]] < v_order.quantities[g];
        IF v_fails IS NULL THEN
            FOR i IN 1 .. cardinality(v_order.pairs) LOOP
                v_left[v_order.pairs[i]] := v_left[v_order.pairs[i]] - v_order.quantities[i];
            END LOOP;
        ELSE
            v_heads[v_order.i].code := 'OM001';
            v_heads[v_order.i].field := format('lines[%s].quantity', v_order.fields[v_fails]);
            v_heads[v_order.i].message := insufficient_stock(v_left[v_order.pairs[v_fails]], v_order.quantities[v_fails],
                v_order.skus[v_fails], v_heads[v_order.i].pool);
        END IF;
    END LOOP;
    RETURN v_heads;
END
$$;

COMMENT ON FUNCTION shop.choose_orders(shop.order_head[], shop.order_demand[], shop.stock_levels[]) IS
'Decides, in queue order and over locked levels, which orders can be served whole; the others get OM001 and the line that failed. NULL when all can.';
