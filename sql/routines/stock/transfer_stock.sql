CREATE OR REPLACE FUNCTION api.transfer_stock(
    p_key text, p_sku text, p_from text, p_to text, p_quantity bigint, p_in_transit boolean DEFAULT false
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = shop, pg_temp
AS $$
DECLARE
    v_known jsonb := take_key(p_key, 'inventory.transfer', jsonb_build_object(
        'sku', p_sku, 'from', p_from, 'to', p_to, 'quantity', p_quantity, 'in_transit', p_in_transit));
    v_problem problem;
    v_variant bigint;
    v_from integer;
    v_to integer;
    v_room bigint;
BEGIN
    IF v_known IS NOT NULL THEN
        RETURN v_known;
    END IF;
    v_problem := check_command(jsonb_build_object('sku', p_sku, 'from', p_from, 'to', p_to), p_quantity, 'quantity');
    IF v_problem.code IS NOT NULL THEN
        RETURN reject_key(p_key, v_problem.code, v_problem.field, v_problem.message);
    END IF;
    SELECT id INTO v_variant FROM product_variants WHERE sku = p_sku;
    SELECT id INTO v_from FROM locations WHERE code = p_from;
    SELECT id INTO v_to FROM locations WHERE code = p_to;
    IF v_variant IS NULL THEN
        RETURN reject_key(p_key, 'OM002', 'sku', format('There is no sku %s.', p_sku));
    ELSIF v_from IS NULL THEN
        RETURN reject_key(p_key, 'OM017', 'from', format('There is no location %s.', p_from));
    ELSIF v_to IS NULL THEN
        RETURN reject_key(p_key, 'OM017', 'to', format('There is no location %s.', p_to));
    ELSIF v_from = v_to THEN
        RETURN reject_key(p_key, 'OM011', 'to', 'Give another location than the one the stock is at.');
    ELSIF p_quantity < 0 THEN
        RETURN reject_key(p_key, 'OM007', 'quantity', 'Give a whole number from 1; to move it back, swap from and to.');
    END IF;
    PERFORM ensure_levels(ARRAY[v_variant, v_variant], ARRAY[v_from, v_to]);
    PERFORM lock_stock(ARRAY[v_variant, v_variant], ARRAY[v_from, v_to]);
    -- Only goods that are there can be moved: backorders are a promise to customers, not to another location.
    SELECT available INTO v_room FROM stock_levels WHERE variant_id = v_variant AND location_id = v_from;
    IF v_room < p_quantity THEN
        RETURN reject_key(p_key, 'OM001', 'quantity', format('Only %s of sku %s are available at %s.',
            greatest(v_room, 0), p_sku, p_from));
    END IF;
    PERFORM apply_movements(ARRAY[ROW(v_variant, v_from, 'available', v_to,
        CASE WHEN p_in_transit THEN 'in_transit' ELSE 'available' END, p_quantity, 'transfer', NULL, p_key, NULL)::stock_move]);
    PERFORM tell_catalog_changed(NULL, ARRAY[p_sku], NULL);
    RETURN decide_key(p_key, 'done', outcome(p_key, 'done', NULL, NULL, NULL, NULL));
END
$$;

COMMENT ON FUNCTION api.transfer_stock(text, text, text, text, bigint, boolean) IS
'Moves available stock between two locations, once per key: at once, or by way of in_transit, from where api.receive_stock books it in.';
