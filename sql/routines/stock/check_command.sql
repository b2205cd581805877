CREATE OR REPLACE FUNCTION shop.check_command(p_codes jsonb, p_quantity bigint, p_quantity_field text)
RETURNS shop.problem
LANGUAGE plpgsql IMMUTABLE
SET search_path = shop, pg_temp
AS $$
DECLARE
    v_field text;
    v_problem text;
BEGIN
    FOR v_field IN SELECT jsonb_object_keys(p_codes) LOOP
        v_problem := bad_text(p_codes -> v_field);
        IF v_problem IS NOT NULL THEN
            RETURN ('OM013', v_field, v_problem)::problem;
        END IF;
    END LOOP;
    IF p_quantity IS NULL OR p_quantity NOT BETWEEN -1000000000 AND 1000000000 OR p_quantity = 0 THEN
        RETURN ('OM007', p_quantity_field, format('Give a whole number up to 1000000000 that is not 0, not %s.',
            coalesce(p_quantity::text, 'nothing')))::problem;
    END IF;
    RETURN NULL;
END
$$;

COMMENT ON FUNCTION shop.check_command(jsonb, bigint, text) IS 'What is wrong with the codes and the quantity of a stock command; NULL when they can be used.';
