CREATE OR REPLACE FUNCTION shop.gather_notices(p_addresses text[], p_alert_ids bigint[]) RETURNS void
LANGUAGE sql VOLATILE
SET search_path = shop, pg_temp
AS $$
    INSERT INTO alert_notices AS n (id, address, alert_ids)
    SELECT shop.uuid7(), u.address, array_agg(DISTINCT u.alert_id)
    FROM unnest(p_addresses, p_alert_ids) AS u (address, alert_id)
    GROUP BY u.address ORDER BY u.address
    ON CONFLICT (address) WHERE attempts = 0 DO UPDATE SET alert_ids = n.alert_ids || excluded.alert_ids
$$;

COMMENT ON FUNCTION shop.gather_notices(text[], bigint[]) IS
'Adds each alert to the notice that gathers for its address (NULL: the log), or begins one.';
