CREATE OR REPLACE FUNCTION shop.bury_notice(p_id uuid, p_reason text) RETURNS void
LANGUAGE sql VOLATILE
SET search_path = shop, pg_temp
AS $$
    WITH gone AS (
        DELETE FROM alert_notices WHERE id = p_id RETURNING address, alert_ids, attempts
    )
    INSERT INTO dead_letters (id, source, key, payload, code, reason, attempts)
    SELECT p_id, 'mail', g.address, jsonb_build_object('address', g.address, 'alert_ids', g.alert_ids), 'OM032', p_reason,
        g.attempts
    FROM gone AS g
$$;

COMMENT ON FUNCTION shop.bury_notice(uuid, text) IS 'Makes a mail that cannot be sent a dead letter, under the same id.';
