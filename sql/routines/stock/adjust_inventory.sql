CREATE OR REPLACE FUNCTION api.adjust_inventory(
    p_key text, p_sku text, p_location text, p_quantity bigint, p_reason text, p_account text DEFAULT 'available'
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = shop, pg_temp
AS $$
DECLARE
    v_known jsonb := take_key(p_key, 'inventory.adjust', jsonb_build_object(
        'sku', p_sku, 'location', p_location, 'quantity', p_quantity, 'reason', p_reason, 'account', p_account));
    v_problem problem;
    v_variant bigint;
    v_location integer;
    v_room bigint;
BEGIN
    IF v_known IS NOT NULL THEN
        RETURN v_known;
    END IF;
    v_problem := check_command(
        jsonb_build_object('sku', p_sku, 'location', p_location, 'reason', p_reason), p_quantity, 'quantity');
    IF v_problem.code IS NOT NULL THEN
        RETURN reject_key(p_key, v_problem.code, v_problem.field, v_problem.message);
    ELSIF p_account IS NULL OR p_account NOT IN ('available', 'unavailable') THEN
        RETURN reject_key(p_key, 'OM011', 'account', 'Only available and unavailable stock can be adjusted.');
    END IF;
    SELECT id INTO v_variant FROM product_variants WHERE sku = p_sku;
    SELECT id INTO v_location FROM locations WHERE code = p_location;
    IF v_variant IS NULL THEN
        RETURN reject_key(p_key, 'OM002', 'sku', format('There is no sku %s.', p_sku));
    ELSIF v_location IS NULL THEN
        RETURN reject_key(p_key, 'OM017', 'location', format('There is no location %s.', p_location));
    END IF;
    PERFORM ensure_levels(ARRAY[v_variant], ARRAY[v_location]);
    PERFORM lock_stock(ARRAY[v_variant], ARRAY[v_location]);
    SELECT CASE p_account WHEN 'available' THEN available + oversell_cap ELSE unavailable END INTO v_room
    FROM stock_levels WHERE variant_id = v_variant AND location_id = v_location;
    IF v_room + p_quantity < 0 THEN
        RETURN reject_key(p_key, 'OM001', 'quantity', format('Only %s of sku %s can be taken out of %s at %s.',
            v_room, p_sku, p_account, p_location));
    END IF;
    PERFORM apply_movements(ARRAY[ROW(
        v_variant,
        CASE WHEN p_quantity < 0 THEN v_location END, CASE WHEN p_quantity < 0 THEN p_account ELSE 'adjustment' END,
        CASE WHEN p_quantity > 0 THEN v_location END, CASE WHEN p_quantity > 0 THEN p_account ELSE 'adjustment' END,
        abs(p_quantity), 'adjust', NULL, p_key, p_reason)::stock_move]);
    PERFORM tell_catalog_changed(NULL, ARRAY[p_sku], NULL);
    RETURN decide_key(p_key, 'done', outcome(p_key, 'done', NULL, NULL, NULL, NULL));
END
$$;

COMMENT ON FUNCTION api.adjust_inventory(text, text, text, bigint, text, text) IS
'Corrects a count at a location by a difference, up or down, once per key. The rows say why: give a reason.';
