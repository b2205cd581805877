CREATE OR REPLACE FUNCTION api.refresh_view(p_view text)
RETURNS TABLE (view text, outcome text, rows bigint, ms integer, staleness_before interval, error text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = shop, pg_temp
SET work_mem = '64MB'
AS $$
#variable_conflict use_column
DECLARE
    v_started timestamptz := clock_timestamp();
    v_deadline interval;
    v_before interval;
    v_evidence text;
    v_from timestamptz;
    v_rows bigint;
    v_error text;
BEGIN
    SELECT f.deadline, v_started - s.refreshed_at INTO v_deadline, v_before
    FROM view_freshness AS f JOIN view_states AS s ON s.view = f.view WHERE f.view = p_view;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'view: there is no view %; api.view_freshness has them all', coalesce(p_view, 'without a name')
            USING ERRCODE = 'OM038';
    ELSIF NOT pg_try_advisory_xact_lock(hashtextextended('ordermill.view.' || p_view, 0)) THEN
        RETURN QUERY SELECT p_view, 'skipped', NULL::bigint, NULL::integer, v_before, NULL::text;
        RETURN;
    END IF;
    BEGIN
        -- Before the refresh reads anything: what happens meanwhile is then evidence against it, never lost.
        v_evidence := view_evidence(p_view);
        v_from := coalesce(view_window(p_view), '-infinity');
        -- An order may be dated a day later than it was taken, so those of the window may be taken before it.
        UPDATE view_states SET refreshed_at = v_started, from_at = v_from, evidence = v_evidence, failures = 0,
            retry_at = NULL, from_id = shop.uuid7_floor(greatest('epoch',
                v_from - CASE WHEN p_view LIKE 'sales%' THEN interval '2 days' ELSE interval '0' END))
        WHERE view = p_view;
        EXECUTE format('REFRESH MATERIALIZED VIEW %s shop.%I', CASE WHEN (SELECT c.relispopulated FROM pg_class AS c
            WHERE c.oid = to_regclass(format('shop.%I', p_view))) THEN 'CONCURRENTLY' ELSE '' END, p_view);
        EXECUTE format('SELECT count(*) FROM shop.%I', p_view) INTO v_rows;
    EXCEPTION WHEN query_canceled OR OTHERS THEN
        -- query_canceled is the deadline, as statement_timeout, or an operator; the old data stands.
        v_error := SQLERRM || ' (' || SQLSTATE || ')';
        v_rows := NULL;
        UPDATE view_states SET failures = failures + 1,
            retry_at = clock_timestamp() + least(v_deadline * 2 ^ least(failures + 1, 20), interval '1 hour')
        WHERE view = p_view;
    END;
    RETURN QUERY SELECT p_view, CASE WHEN v_error IS NULL THEN 'refreshed' ELSE 'failed' END, v_rows,
        record_refresh(p_view, v_started, v_rows, v_before, v_error), v_before, v_error;
END
$$;

COMMENT ON FUNCTION api.refresh_view(text) IS
'Refreshes a view now, whether it is stale or not, while it can be read, and records it; `skipped` when somebody else is at it. A refresh that fails, or that statement_timeout ends, is recorded as `failed`, leaves the old data, and is not due again for twice the deadline, then twice that, at most an hour.';
