CREATE OR REPLACE FUNCTION api.add_alert_recipient(
    p_address text, p_min_escalation integer DEFAULT 0, p_pool text DEFAULT NULL, p_category text DEFAULT NULL
) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = shop, pg_temp
AS $$
DECLARE
    v_pool integer := (SELECT id FROM pools WHERE code = p_pool);
    v_category bigint := (SELECT id FROM categories WHERE code = p_category);
    v_id bigint;
BEGIN
    IF p_pool IS NOT NULL AND v_pool IS NULL THEN
        RAISE EXCEPTION 'there is no pool %', p_pool USING ERRCODE = 'OM004';
    ELSIF p_category IS NOT NULL AND v_category IS NULL THEN
        RAISE EXCEPTION 'there is no category %', p_category USING ERRCODE = 'OM033';
    END IF;
    INSERT INTO alert_recipients AS r (address, min_escalation, pool_id, category_id)
    VALUES (p_address, p_min_escalation, v_pool, v_category)
    ON CONFLICT ON CONSTRAINT recipient_is_listed_once DO UPDATE SET min_escalation = excluded.min_escalation
    RETURNING r.id INTO v_id;
    RETURN v_id;
END
$$;

COMMENT ON FUNCTION api.add_alert_recipient(text, integer, text, text) IS
'Has an address told by mail from this escalation on (0: as soon as an alert opens), of a pool, of a category with those below it, or of all; gives its number. The same again changes its escalation.';
