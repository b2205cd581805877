CREATE OR REPLACE FUNCTION shop.consume_webhooks(p_events shop.events[]) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = shop, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
DECLARE
    v_endpoints integer[];
    v_streams text[];
BEGIN
    -- Known already: the consumer was rewound. Only what is new wakes its stream.
    WITH kinds AS (
        SELECT w.id, w.since_position, k.kind
        FROM (SELECT DISTINCT e.kind FROM unnest(p_events) AS e) AS k
        JOIN webhook_endpoints AS w ON wants_kind(w.kinds, k.kind)
        FOR KEY SHARE OF w -- one that is being removed must not be what this fails for
    ), added AS (
        INSERT INTO webhook_deliveries (endpoint_id, position, event_id, stream)
        SELECT k.id, e.position, e.id, e.stream
        FROM unnest(p_events) AS e JOIN kinds AS k ON k.kind = e.kind AND e.position > k.since_position
        ON CONFLICT (endpoint_id, position) DO NOTHING
        RETURNING endpoint_id, stream
    )
    SELECT array_agg(a.endpoint_id), array_agg(a.stream) INTO v_endpoints, v_streams FROM added AS a;
    IF v_endpoints IS NOT NULL THEN
        PERFORM wake_streams(v_endpoints, v_streams);
    END IF;
END
$$;

COMMENT ON FUNCTION shop.consume_webhooks(shop.events[]) IS
'The consumer webhooks: a delivery for each event and each endpoint that wants its kind and was there before it; once, however often it is given.';
