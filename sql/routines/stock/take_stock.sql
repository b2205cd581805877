CREATE OR REPLACE FUNCTION shop.take_stock(p_shares shop.order_share[]) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = shop, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
DECLARE
    v_locked stock_levels[];
BEGIN
    SELECT lock_stock(array_agg(s.variant_id), array_agg(s.location_id)) INTO v_locked FROM unnest(p_shares) AS s;
    IF EXISTS (
        SELECT FROM (
            SELECT variant_id, location_id, sum(quantity) AS quantity FROM unnest(p_shares) GROUP BY 1, 2
        ) AS s
        LEFT JOIN unnest(v_locked) AS l ON l.variant_id = s.variant_id AND l.location_id = s.location_id
        WHERE s.quantity > coalesce(l.available, 0)
    ) THEN
        RAISE serialization_failure USING MESSAGE = 'the stock that was ample was taken just now; try again';
    END IF;
END
$$;

COMMENT ON FUNCTION shop.take_stock(shop.order_share[]) IS
'Locks the levels that these shares were cut from and makes sure that they still have as much; else the transaction fails with 40001, to be tried again.';
