CREATE OR REPLACE FUNCTION api.claim_deliveries(
    p_endpoints integer[], p_streams integer[], p_events integer, p_lease_seconds double precision
) RETURNS TABLE (
    lease uuid, endpoint_id integer, stream text, "position" bigint, event_id uuid, kind text, payload text, -- noqa: RF06
    created_at timestamptz
)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = shop, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
#variable_conflict use_column
DECLARE
    v_lease uuid := gen_random_uuid();
    v_now timestamptz := clock_timestamp();
    v_endpoints integer[];
    v_streams text[];
BEGIN
    WITH due AS MATERIALIZED (
        SELECT s.endpoint_id, s.stream
        FROM unnest(p_endpoints, p_streams) AS a (endpoint_id, streams)
        JOIN webhook_endpoints AS w ON w.id = a.endpoint_id
        CROSS JOIN LATERAL (
            SELECT d.endpoint_id, d.stream FROM delivery_streams AS d
            WHERE d.endpoint_id = w.id AND d.due_at <= v_now
            -- One that fails is only asked whether it is back.
            ORDER BY d.due_at LIMIT CASE WHEN w.failures > 0 THEN least(a.streams, 1) ELSE a.streams END
            FOR UPDATE SKIP LOCKED
        ) AS s
        WHERE w.disabled_at IS NULL AND w.replay_position IS NULL AND coalesce(w.rests_until <= v_now, true)
    ), leased AS (
        UPDATE delivery_streams AS s SET lease = v_lease, due_at = v_now + make_interval(secs => p_lease_seconds)
        FROM due AS d WHERE s.endpoint_id = d.endpoint_id AND s.stream = d.stream
        RETURNING s.endpoint_id, s.stream
    )
    SELECT array_agg(l.endpoint_id), array_agg(l.stream) INTO v_endpoints, v_streams FROM leased AS l;
    IF v_endpoints IS NULL THEN
        RETURN;
    END IF;
    -- A statement of its own, so that it sees what the stream's last holder had committed when the row was free.
    RETURN QUERY
    SELECT v_lease, n.endpoint_id, n.stream, n.position, n.event_id, e.kind, e.payload::text, e.created_at
    FROM unnest(v_endpoints, v_streams) AS u (endpoint_id, stream)
    CROSS JOIN LATERAL (
        SELECT d.endpoint_id, d.stream, d.position, d.event_id FROM webhook_deliveries AS d
        WHERE d.endpoint_id = u.endpoint_id AND d.stream = u.stream AND d.ended_at IS NULL
        ORDER BY d.position LIMIT p_events
    ) AS n
    LEFT JOIN events AS e ON e.id = n.event_id
    ORDER BY n.endpoint_id, n.stream, n.position;
END
$$;

COMMENT ON FUNCTION api.claim_deliveries(integer[], integer[], integer, double precision) IS
'Leases due streams, so many of each endpoint (one of an endpoint that fails, none of one that rests), and gives the next events of each in order; kind is NULL where the event is archived. Nobody else has them until the lease ends.';
