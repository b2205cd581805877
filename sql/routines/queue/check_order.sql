CREATE OR REPLACE FUNCTION shop.check_order(p_request jsonb) RETURNS shop.problem
LANGUAGE plpgsql STABLE
SET search_path = shop, pg_temp
AS $$
DECLARE
    v_field text;
    v_problem text;
BEGIN
    IF p_request IS NULL OR jsonb_typeof(p_request) <> 'object' THEN
        RETURN ('OM011', 'request', 'Give one JSON object: {"version": 1, "key": …, "customer": …, "pool": …, "lines": […]}.')
            ::problem;
    END IF;
    IF (p_request - '{version,key,customer,pool,currency,ordered_at,ship_to,lines}'::text[]) <> '{}' THEN
        SELECT min(k) INTO v_field
        FROM jsonb_object_keys(p_request - '{version,key,customer,pool,currency,ordered_at,ship_to,lines}'::text[]) AS k;
        RETURN ('OM012', v_field, 'An order has no such field; take it out or correct its name.')::problem;
    END IF;
    IF coalesce(p_request -> 'version', '1') <> '1' THEN
        RETURN ('OM020', 'version', 'This Ordermill knows version 1 of an order.')::problem;
    END IF;
    FOREACH v_field IN ARRAY '{key,customer,pool}'::text[] LOOP
        v_problem := bad_text(p_request -> v_field);
        IF v_problem IS NOT NULL THEN
            RETURN ('OM013', v_field, v_problem)::problem;
        END IF;
    END LOOP;
    IF p_request ?| '{currency,ship_to,ordered_at}' THEN
        FOREACH v_field IN ARRAY '{currency,ship_to}'::text[] LOOP
            v_problem := bad_text(nullif(p_request -> v_field, 'null'));
            IF v_problem IS NOT NULL AND coalesce(p_request -> v_field, 'null') <> 'null' THEN
                RETURN ('OM013', v_field, v_problem)::problem;
            END IF;
        END LOOP;
        IF coalesce(p_request -> 'ordered_at', 'null') <> 'null'
            AND (jsonb_typeof(p_request -> 'ordered_at') <> 'string' OR NOT is_time(p_request ->> 'ordered_at'))
        THEN
            RETURN ('OM019', 'ordered_at', 'Give a time with its offset, such as 2026-01-31T10:00:00Z.')::problem;
        END IF;
    END IF;
    RETURN check_lines(p_request -> 'lines');
END
$$;

COMMENT ON FUNCTION shop.check_order(jsonb) IS
'The first thing wrong with the form of an order request; NULL when it can be used. Whether its names exist is decided when it is placed.';
