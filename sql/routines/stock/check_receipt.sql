CREATE OR REPLACE FUNCTION shop.check_receipt(p_location text, p_lines jsonb, p_from text, p_to text)
RETURNS shop.problem
LANGUAGE plpgsql STABLE
SET search_path = shop, pg_temp
AS $$
DECLARE
    v_problem problem := check_lines(p_lines);
    v_line integer;
    v_sku text;
BEGIN
    IF v_problem.code IS NOT NULL THEN
        RETURN v_problem;
    ELSIF bad_text(to_jsonb(p_location)) IS NOT NULL THEN
        RETURN ('OM013', 'location', bad_text(to_jsonb(p_location)))::problem;
    ELSIF NOT EXISTS (SELECT FROM locations WHERE code = p_location) THEN
        RETURN ('OM017', 'location', format('There is no location %s.', p_location))::problem;
    ELSIF p_from IS NULL OR p_from NOT IN ('supplier', 'incoming', 'in_transit') THEN
        RETURN ('OM011', 'from', 'Stock is received from supplier, incoming or in_transit.')::problem;
    ELSIF p_to IS NULL OR p_to NOT IN ('available', 'unavailable', 'incoming')
        OR (p_to = 'incoming' AND p_from <> 'supplier')
    THEN
        RETURN ('OM011', 'to', 'Stock is received to available, unavailable or, from the supplier, incoming.')::problem;
    END IF;
    SELECT n - 1, l ->> 'sku' INTO v_line, v_sku
    FROM jsonb_array_elements(p_lines) WITH ORDINALITY AS r (l, n)
    WHERE NOT EXISTS (SELECT FROM product_variants WHERE sku = l ->> 'sku') ORDER BY n LIMIT 1;
    IF FOUND THEN
        RETURN ('OM002', format('lines[%s].sku', v_line), format('There is no sku %s.', v_sku))::problem;
    END IF;
    RETURN NULL;
END
$$;

COMMENT ON FUNCTION shop.check_receipt(text, jsonb, text, text) IS 'What is wrong with a receipt of goods; NULL when it can be booked.';
