CREATE OR REPLACE FUNCTION api.advance_replays(p_limit integer DEFAULT 1000) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = shop, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
DECLARE
    v_endpoint webhook_endpoints;
    v_events events[];
    v_next bigint;
BEGIN
    SELECT w.* INTO v_endpoint FROM webhook_endpoints AS w
    WHERE w.replay_position IS NOT NULL AND w.disabled_at IS NULL ORDER BY w.id LIMIT 1;
    IF NOT FOUND OR NOT pg_try_advisory_xact_lock(hashtext('ordermill.webhook_replay')) THEN
        RETURN 0;
    END IF;
    v_events := next_events(v_endpoint.replay_position - 1, p_limit);
    PERFORM deliver_again(v_endpoint.id, array_agg(e::events)) FROM unnest(v_events) AS e
    WHERE e.position <= v_endpoint.replay_until AND wants_kind(v_endpoint.kinds, e.kind) HAVING count(*) > 0;
    v_next := coalesce(v_events[cardinality(v_events)].position, v_endpoint.replay_until) + 1;
    UPDATE webhook_endpoints
    SET replay_position = CASE WHEN v_next <= v_endpoint.replay_until THEN v_next END,
        replay_until = CASE WHEN v_next <= v_endpoint.replay_until THEN v_endpoint.replay_until END
    WHERE id = v_endpoint.id AND replay_position = v_endpoint.replay_position
        AND replay_until = v_endpoint.replay_until;
    RETURN coalesce(cardinality(v_events), 1);
END
$$;

COMMENT ON FUNCTION api.advance_replays(integer) IS
'Goes on with a replay: one bounded batch of events; gives how many, 0 when no replay is at work or another worker is at it.';
