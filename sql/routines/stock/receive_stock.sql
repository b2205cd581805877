CREATE OR REPLACE FUNCTION api.receive_stock(
    p_key text, p_location text, p_lines jsonb, p_from text DEFAULT 'supplier', p_to text DEFAULT 'available'
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = shop, pg_temp
AS $$
DECLARE
    v_known jsonb := take_key(p_key, 'inventory.receive', jsonb_build_object(
        'location', p_location, 'lines', p_lines, 'from', p_from, 'to', p_to));
    v_problem problem;
    v_location integer;
    v_variants bigint[];
    v_places integer[];
    v_quantities bigint[];
    v_short text;
BEGIN
    IF v_known IS NOT NULL THEN
        RETURN v_known;
    END IF;
    v_problem := check_receipt(p_location, p_lines, p_from, p_to);
    IF v_problem.code IS NOT NULL THEN
        RETURN reject_key(p_key, v_problem.code, v_problem.field, v_problem.message);
    END IF;
    SELECT id INTO v_location FROM locations WHERE code = p_location;
    SELECT array_agg(v.id), array_agg(v_location), array_agg(l.quantity) INTO v_variants, v_places, v_quantities
    FROM (SELECT r ->> 'sku' AS sku, sum((r ->> 'quantity')::numeric) AS quantity
        FROM jsonb_array_elements(p_lines) AS r GROUP BY 1) AS l
    JOIN product_variants AS v ON v.sku = l.sku;
    PERFORM ensure_levels(v_variants, v_places);
    PERFORM lock_stock(v_variants, v_places);
    IF p_from <> 'supplier' THEN
        SELECT min(v.sku) INTO v_short
        FROM unnest(v_variants, v_quantities) AS w (id, quantity)
        JOIN product_variants AS v ON v.id = w.id
        JOIN stock_levels AS s ON s.variant_id = w.id AND s.location_id = v_location
        WHERE w.quantity > CASE p_from WHEN 'incoming' THEN s.incoming ELSE s.in_transit END;
        IF v_short IS NOT NULL THEN
            RETURN reject_key(p_key, 'OM001', 'lines', format('Less of sku %s is %s at %s than that.',
                v_short, replace(p_from, '_', ' '), p_location));
        END IF;
    END IF;
    PERFORM apply_movements(array_agg(ROW(w.id, CASE WHEN p_from <> 'supplier' THEN v_location END, p_from, v_location,
        p_to, w.quantity, 'receive', NULL, p_key, NULL)::stock_move))
    FROM unnest(v_variants, v_quantities) AS w (id, quantity);
    PERFORM tell_catalog_changed(NULL, ARRAY(SELECT v.sku FROM product_variants AS v WHERE v.id = ANY (v_variants)), NULL);
    RETURN decide_key(p_key, 'done', outcome(p_key, 'done', NULL, NULL, NULL, NULL));
END
$$;

COMMENT ON FUNCTION api.receive_stock(text, text, jsonb, text, text) IS
'Books goods in at a location, once per key: from the supplier, from what was announced (incoming) or from a transfer (in_transit); to available, unavailable or, as an announcement, incoming.';
