CREATE OR REPLACE FUNCTION api.claim_alert_notice(
    p_mail boolean, p_gather interval, p_lease interval, p_budget integer, p_most integer
) RETURNS TABLE (id uuid, address text, attempt integer, total integer, alerts jsonb)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = shop, pg_temp
AS $$
DECLARE
    v_notice alert_notices;
    v_open bigint[];
BEGIN
    LOOP
        SELECT n.* INTO v_notice FROM alert_notices AS n
        WHERE n.sent_at IS NULL AND n.due_at <= clock_timestamp() AND (n.address IS NOT NULL) = p_mail
            -- While an earlier mail to the same address is put off, the next goes on gathering: after a night without a
            -- server there are two, in their order.
            AND (n.attempts > 0 OR (n.created_at <= clock_timestamp() - p_gather AND NOT EXISTS (
                SELECT FROM alert_notices AS o WHERE o.address = n.address AND o.attempts > 0 AND o.sent_at IS NULL)))
            AND (n.leased_until IS NULL OR n.leased_until < clock_timestamp())
        ORDER BY n.due_at LIMIT 1 FOR UPDATE SKIP LOCKED;
        IF NOT FOUND THEN
            RETURN;
        END IF;
        v_open := ARRAY(
            SELECT DISTINCT a.id FROM alerts AS a WHERE a.id = ANY (v_notice.alert_ids) AND a.state <> 'resolved');
        IF cardinality(v_open) = 0 THEN
            DELETE FROM alert_notices AS n WHERE n.id = v_notice.id;
        ELSIF p_mail AND v_notice.attempts >= p_budget THEN
            PERFORM bury_notice(v_notice.id, 'Each attempt to send it ended with its worker.');
        ELSE
            EXIT;
        END IF;
    END LOOP;
    UPDATE alert_notices AS n SET attempts = n.attempts + 1, leased_until = clock_timestamp() + p_lease
    WHERE n.id = v_notice.id;
    IF NOT p_mail AND cardinality(v_open) > p_most THEN
        -- A mail says how many more there are; the log has a line for each, so the rest is another notice.
        PERFORM gather_notices(array_fill(NULL::text, ARRAY[cardinality(v_open) - p_most]), v_open[p_most + 1:]);
        v_open := v_open[:p_most];
        UPDATE alert_notices AS n SET alert_ids = v_open WHERE n.id = v_notice.id;
    END IF;
    RETURN QUERY
    SELECT v_notice.id, v_notice.address, v_notice.attempts + 1, cardinality(v_open), (
        SELECT jsonb_agg(to_jsonb(s) ORDER BY s.level DESC, s.id) FROM (
            SELECT a.* FROM api.alerts AS a WHERE a.id = ANY (v_open) ORDER BY a.level DESC, a.id LIMIT p_most) AS s);
END
$$;

COMMENT ON FUNCTION api.claim_alert_notice(boolean, interval, interval, integer, integer) IS
'The next mail that is due (or, p_mail false, what the log is to have), under a lease, with its alerts that are not resolved (at most p_most; total says how many there are, and what the log cannot have now it has next); a new one gathers for p_gather first. No row when nothing is due. What has no unresolved alert left is dropped.';
