CREATE OR REPLACE FUNCTION shop.tell_alerts(
    p_kind text, p_alert_ids bigint[], p_told integer[] DEFAULT NULL, p_by text DEFAULT NULL
) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = shop, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
BEGIN
    IF p_alert_ids IS NULL THEN
        RETURN;
    END IF;
    INSERT INTO events_inbox (id, stream, kind, payload)
    SELECT shop.uuid7(), 'alert:' || a.id, p_kind, jsonb_build_object(
        'alert_id', a.id, 'variant_id', a.variant_id, 'location_id', a.location_id, 'sku', a.sku,
        'location', a.location, 'pool', a.pool, 'level', a.level, 'state', a.state, 'escalation', a.escalation,
        'available', a.available, 'threshold', a.threshold, 'opened_at', a.opened_at,
        'snoozed_until', a.snoozed_until, 'by', p_by)
    FROM api.alerts AS a WHERE a.id = ANY (p_alert_ids) ORDER BY a.id;
    IF p_told IS NOT NULL THEN
        PERFORM gather_notices(array_agg(w.address), array_agg(w.id)) FROM (
            WITH RECURSIVE covered AS (
                SELECT r.id AS recipient_id, r.category_id FROM alert_recipients AS r WHERE r.category_id IS NOT NULL
                UNION
                SELECT c.recipient_id, g.id FROM covered AS c JOIN categories AS g ON g.parent_id = c.category_id
            )
            SELECT r.address, a.id
            FROM unnest(p_alert_ids, p_told) AS u (id, told)
            JOIN alerts AS a ON a.id = u.id
            JOIN locations AS o ON o.id = a.location_id
            JOIN product_variants AS v ON v.id = a.variant_id
            JOIN products AS p ON p.id = v.product_id
            JOIN alert_recipients AS r ON r.min_escalation > u.told AND r.min_escalation <= a.escalation
                AND (r.pool_id IS NULL OR r.pool_id = o.pool_id)
                AND (r.category_id IS NULL
                    OR (r.id, p.category_id) IN (SELECT c.recipient_id, c.category_id FROM covered AS c))
            UNION
            SELECT NULL, u.id FROM unnest(p_alert_ids) AS u (id)
        ) AS w;
    END IF;
END
$$;

COMMENT ON FUNCTION shop.tell_alerts(text, bigint[], integer[], text) IS
'Writes an event for each of these alerts and, with p_told, has the log and the recipients told whose escalation is above p_told and reached. The caller has the lock of alerts when p_told is given.';
