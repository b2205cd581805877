CREATE OR REPLACE FUNCTION api.escalate_alerts(p_first interval, p_second interval, p_limit integer DEFAULT 500)
RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = shop, pg_temp
AS $$
DECLARE
    v_now timestamptz;
    v_woken bigint[];
    v_raised bigint[];
    v_told integer[];
BEGIN
    IF p_first IS NULL OR p_second IS NULL OR p_first <= interval '0' OR p_second <= p_first THEN
        RAISE EXCEPTION 'the first age must be above zero and the second above the first, not % and %', p_first, p_second
            USING ERRCODE = 'OM011';
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('ordermill.alerts'));
    v_now := clock_timestamp();
    WITH due AS (
        SELECT a.id, a.state, a.escalation,
            CASE WHEN a.waits_since <= v_now - p_second THEN 2 WHEN a.waits_since <= v_now - p_first THEN 1 ELSE 0 END AS age
        FROM alerts AS a
        WHERE (a.state = 'snoozed' OR (a.state = 'open' AND a.escalation < 2)) AND a.waits_since <= v_now
            AND (a.state = 'snoozed' OR a.waits_since <= v_now - CASE a.escalation WHEN 0 THEN p_first ELSE p_second END)
        ORDER BY a.waits_since LIMIT p_limit FOR NO KEY UPDATE SKIP LOCKED
    ), changed AS (
        UPDATE alerts AS a SET state = 'open', escalation = greatest(a.escalation, d.age)
        FROM due AS d WHERE a.id = d.id
        RETURNING a.id, a.escalation > d.escalation AS raised, d.state, d.escalation AS told
    )
    SELECT array_agg(id) FILTER (WHERE state = 'snoozed' AND NOT raised), array_agg(id) FILTER (WHERE raised),
        -- After a snooze everybody is told again, not only those that the escalation adds.
        array_agg(CASE state WHEN 'snoozed' THEN -1 ELSE told END) FILTER (WHERE raised)
    INTO v_woken, v_raised, v_told FROM changed;
    PERFORM tell_alerts('alert.reopened', v_woken, array_fill(-1, ARRAY[coalesce(cardinality(v_woken), 0)]));
    PERFORM tell_alerts('alert.escalated', v_raised, v_told);
    RETURN coalesce(cardinality(v_woken), 0) + coalesce(cardinality(v_raised), 0);
END
$$;

COMMENT ON FUNCTION api.escalate_alerts(interval, interval, integer) IS
'Raises the escalation of alerts that nobody has looked after for these ages, and wakes those whose snooze ran out: one bounded batch; gives how many, 0 when done.';
