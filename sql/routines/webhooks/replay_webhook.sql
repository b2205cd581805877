CREATE OR REPLACE FUNCTION api.replay_webhook(p_name text, p_from bigint) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = shop, pg_temp
AS $$
DECLARE
    v_id integer := endpoint_named(p_name);
    v_head bigint := (SELECT h.position FROM event_head AS h);
BEGIN
    IF coalesce(p_from NOT BETWEEN 1 AND v_head, true) THEN
        RAISE EXCEPTION 'give a position from 1 to %, not %', v_head, coalesce(p_from::text, 'none')
            USING ERRCODE = 'OM011';
    END IF;
    -- Until a deliverer has gone through them all nothing is sent, so that each stream is in order again. A replay that
    -- is at work is not cut short.
    UPDATE webhook_endpoints
    SET replay_position = least(replay_position, p_from), replay_until = v_head WHERE id = v_id;
    RETURN v_head - p_from + 1;
END
$$;

COMMENT ON FUNCTION api.replay_webhook(text, bigint) IS
'Has an endpoint told again, in order, all it wants from a position on, under the same ids; gives how many positions are looked through. Deliverers do it.';
