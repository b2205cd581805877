CREATE OR REPLACE FUNCTION shop.attach_month(p_table text, p_month date) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = shop, pg_temp
AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM retirements AS r WHERE r.month = p_month) THEN
        RAISE EXCEPTION '% was never retired', to_char(p_month, 'YYYY-MM') USING ERRCODE = 'OM050';
    END IF;
    EXECUTE format('ALTER TABLE shop.%I ATTACH PARTITION shop.%I FOR VALUES FROM (%L) TO (%L)',
        p_table, month_part(p_table, p_month), uuid7_floor(p_month::timestamp AT TIME ZONE 'UTC'),
        uuid7_floor((p_month + interval '1 month') AT TIME ZONE 'UTC'));
END
$$;

COMMENT ON FUNCTION shop.attach_month(text, date) IS
'Attaches a restored partition again. It stays out of `verify`, and until `ordermill archive run MONTH` retires it anew.';
