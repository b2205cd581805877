CREATE OR REPLACE FUNCTION shop.check_lines(p_lines jsonb) RETURNS shop.problem
LANGUAGE plpgsql IMMUTABLE
SET search_path = shop, pg_temp
AS $$
DECLARE
    v_line jsonb;
    v_quantity jsonb;
    v_problem text;
    v_sum bigint := 0;
BEGIN
    IF p_lines IS NULL OR p_lines IN ('null', '[]') THEN
        RETURN ('OM008', 'lines', 'Give at least one line with a sku and a quantity.')::problem;
    ELSIF jsonb_typeof(p_lines) <> 'array' THEN
        RETURN ('OM011', 'lines', 'Give a list of lines, each {"sku": "…", "quantity": 1}.')::problem;
    ELSIF jsonb_array_length(p_lines) > 500 THEN
        RETURN ('OM009', 'lines', format('An order has at most 500 lines, this one has %s; split it.',
            jsonb_array_length(p_lines)))::problem;
    END IF;
    FOR i IN 0 .. jsonb_array_length(p_lines) - 1 LOOP
        v_line := p_lines -> i;
        IF jsonb_typeof(v_line) <> 'object' THEN
            RETURN ('OM011', format('lines[%s]', i), 'Give each line as {"sku": "…", "quantity": 1}.')::problem;
        END IF;
        IF (v_line - '{sku,quantity}'::text[]) <> '{}' THEN
            SELECT min(k) INTO v_problem FROM jsonb_object_keys(v_line - '{sku,quantity}'::text[]) AS k;
            RETURN ('OM012', format('lines[%s].%s', i, v_problem), 'A line has only sku and quantity; take this field out.')::problem;
        END IF;
        v_problem := bad_text(v_line -> 'sku');
        IF v_problem IS NOT NULL THEN
            RETURN ('OM013', format('lines[%s].sku', i), v_problem)::problem;
        END IF;
        v_quantity := v_line -> 'quantity';
        IF jsonb_typeof(v_quantity) IS DISTINCT FROM 'number'
            OR v_quantity NOT BETWEEN '1' AND '1000000'
            -- By value: 2.0 and 2e0 are how some languages write 2.
            OR v_quantity::numeric % 1 <> 0
        THEN
            RETURN ('OM007', format('lines[%s].quantity', i), format('Give a whole number from 1 to 1000000, not %s.',
                left(coalesce(replace(v_quantity::text, U&'\FDD0', ''), 'nothing'), 40)))::problem;
        END IF;
        v_sum := v_sum + v_quantity::bigint;
    END LOOP;
    -- One line a variant: a duplicate is added to its first.
    IF v_sum > 1000000 THEN
        IF EXISTS (SELECT FROM jsonb_array_elements(p_lines) AS l GROUP BY l ->> 'sku'
            HAVING sum((l ->> 'quantity')::numeric) > 1000000)
        THEN
            RETURN ('OM007', 'lines', 'The lines of one sku add up to more than 1000000; split the order.')::problem;
        END IF;
    END IF;
    RETURN NULL;
END
$$;

COMMENT ON FUNCTION shop.check_lines(jsonb) IS 'The first thing wrong with the form of an order''s lines; NULL when they can be used.';
