CREATE OR REPLACE FUNCTION shop.ensure_levels(p_variant_ids bigint[], p_location_ids integer[]) RETURNS integer
LANGUAGE plpgsql VOLATILE
SET search_path = shop, pg_temp
AS $$
DECLARE
    v_made integer;
BEGIN
    INSERT INTO stock_levels (variant_id, location_id)
    SELECT DISTINCT v, p FROM unnest(p_variant_ids, p_location_ids) AS u (v, p)
    WHERE NOT EXISTS (SELECT FROM stock_levels AS l WHERE l.variant_id = v AND l.location_id = p)
    ORDER BY v, p
    ON CONFLICT (variant_id, location_id) DO NOTHING;
    GET DIAGNOSTICS v_made = ROW_COUNT;
    RETURN v_made;
END
$$;

COMMENT ON FUNCTION shop.ensure_levels(bigint[], integer[]) IS 'Makes the missing levels, all zero, in the global order, and gives how many.';
