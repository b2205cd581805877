CREATE OR REPLACE FUNCTION api.ensure_partitions(p_ahead integer DEFAULT 6) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = shop, pg_temp
AS $$
DECLARE
    v_table text;
    v_month timestamp; -- of UTC
    v_name text;
    v_made integer := 0;
BEGIN
    IF p_ahead IS NULL OR p_ahead NOT BETWEEN 1 AND 12 THEN
        RAISE EXCEPTION 'from 1 to 12 months can be made ahead, not %', p_ahead USING ERRCODE = 'OM011';
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('ordermill.partitions'));
    -- Parents before children, so that each month's lines find their orders. Months are of UTC, whatever the session's.
    FOREACH v_table IN ARRAY partitioned_tables() LOOP
        FOR v_month IN
            SELECT date_trunc('month', now() AT TIME ZONE 'UTC') + make_interval(months => m)
            FROM generate_series(-1, p_ahead) AS m
        LOOP
            v_name := v_table || to_char(v_month, '_YYYY_MM');
            IF to_regclass('shop.' || v_name) IS NULL THEN
                -- Made apart and attached: that lets readers and short writers of the table go on.
                EXECUTE format('CREATE TABLE shop.%I (LIKE shop.%I INCLUDING ALL)', v_name, v_table);
                EXECUTE format('ALTER TABLE shop.%2$I ATTACH PARTITION shop.%1$I FOR VALUES FROM (%3$L) TO (%4$L)',
                    v_name, v_table, shop.uuid7_floor(v_month AT TIME ZONE 'UTC'),
                    shop.uuid7_floor((v_month + interval '1 month') AT TIME ZONE 'UTC'));
                v_made := v_made + 1;
            END IF;
        END LOOP;
    END LOOP;
    RETURN v_made;
END
$$;

COMMENT ON FUNCTION api.ensure_partitions(integer) IS 'Makes the partitions of the last month (a clock may step back), this month and the months ahead, and gives how many it made. Harmless to repeat.';
