CREATE OR REPLACE FUNCTION api.rewind_consumer(p_consumer text, p_from bigint) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = shop, pg_temp
AS $$
DECLARE
    v_head bigint := (SELECT h.position FROM event_head AS h);
    v_first bigint := (SELECT coalesce(max(r.events_through), 0) + 1 FROM retirements AS r); -- before: retired
    v_before bigint;
BEGIN
    IF p_from IS NULL OR p_from NOT BETWEEN v_first AND v_head + 1 THEN
        RAISE EXCEPTION 'give a position from % to %, not %', v_first, v_head + 1, coalesce(p_from::text, 'none')
            USING ERRCODE = 'OM011';
    END IF;
    SELECT position INTO v_before FROM event_consumers WHERE consumer = p_consumer FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no consumer %', p_consumer USING ERRCODE = 'OM023',
            HINT = 'SELECT consumer FROM api.event_consumers lists them.';
    END IF;
    IF p_consumer = 'webhooks' AND p_from <= v_before THEN
        -- What it did is pruned after some days, and would be sent again.
        RAISE EXCEPTION 'webhooks does not go back, which would send again what was sent long ago: use ordermill webhooks replay'
            USING ERRCODE = 'OM011';
    END IF;
    UPDATE event_consumers SET position = p_from - 1, moved_at = clock_timestamp() WHERE consumer = p_consumer;
    RETURN v_head - p_from + 1;
END
$$;

COMMENT ON FUNCTION api.rewind_consumer(text, bigint) IS
'Lets a consumer start again from a position (or skip up to it), and gives how many events it has before it. Consumers bear an event twice: what it did is done already. The consumer webhooks only skips: api.replay_webhook tells an endpoint again.';
