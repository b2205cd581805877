CREATE OR REPLACE FUNCTION api.read_events(p_consumer text, p_limit integer DEFAULT 500)
RETURNS TABLE (after bigint, "position" bigint, id uuid, stream text, kind text, payload jsonb, created_at timestamptz) -- noqa: RF06
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = shop, pg_temp
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    v_after bigint;
BEGIN
    SELECT c.position INTO v_after FROM event_consumers AS c, event_head AS h
    WHERE c.consumer = p_consumer AND c.outside AND c.position < h.position;
    IF FOUND THEN
        RETURN QUERY
        SELECT v_after, e.position, e.id, e.stream, e.kind, e.payload, e.created_at
        FROM unnest(next_events(v_after, p_limit)) AS e;
    END IF;
END
$$;

COMMENT ON FUNCTION api.read_events(text, integer) IS
'The next events of a consumer whose effect is outside the database, each with the cursor they come after; api.advance_consumer says that they are done. At least once.';
