CREATE OR REPLACE FUNCTION shop.load_stock(
    p_variant_ids bigint[], p_location_ids integer[], p_quantities bigint[], p_oversell_caps bigint[],
    p_low_stock_thresholds bigint[]
) RETURNS bigint
LANGUAGE plpgsql VOLATILE
SET search_path = shop, pg_temp
AS $$
DECLARE
    v_moved bigint;
BEGIN
    PERFORM ensure_levels(p_variant_ids, p_location_ids);
    PERFORM lock_stock(p_variant_ids, p_location_ids);
    UPDATE stock_levels AS l SET oversell_cap = coalesce(u.cap, l.oversell_cap), low_stock_threshold = u.threshold
    FROM unnest(p_variant_ids, p_location_ids, p_oversell_caps, p_low_stock_thresholds) AS u (v, p, cap, threshold)
    WHERE l.variant_id = u.v AND l.location_id = u.p;
    SELECT apply_movements(array_agg(
        ROW(v, NULL, 'supplier', p, 'available', q, 'opening', NULL, NULL, NULL)::stock_move)) INTO v_moved
    FROM unnest(p_variant_ids, p_location_ids, p_quantities) AS u (v, p, q) WHERE q > 0;
    RETURN coalesce(v_moved, 0);
END
$$;

COMMENT ON FUNCTION shop.load_stock(bigint[], integer[], bigint[], bigint[], bigint[]) IS
'For whoever sets up a shop, as the owner: opens the stock of many variants and locations, with their backorder caps and thresholds, as movements from the supplier. Not keyed: run once.';
