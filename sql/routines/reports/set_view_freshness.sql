CREATE OR REPLACE FUNCTION api.set_view_freshness(
    p_view text, p_max_staleness interval DEFAULT NULL, p_deadline interval DEFAULT NULL,
    p_enabled boolean DEFAULT NULL, p_history interval DEFAULT NULL, p_all_history boolean DEFAULT FALSE
) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = shop, pg_temp
AS $$
DECLARE
    v_built_from text;
BEGIN
    SELECT built_from INTO v_built_from FROM view_freshness WHERE view = p_view FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'view: there is no view %; api.view_freshness has them all', coalesce(p_view, 'without a name')
            USING ERRCODE = 'OM038';
    ELSIF p_max_staleness NOT BETWEEN interval '1 second' AND interval '366 days' THEN
        RAISE EXCEPTION 'max_staleness: give from 1 second to 366 days, not %', p_max_staleness USING ERRCODE = 'OM011';
    ELSIF p_deadline NOT BETWEEN interval '10 milliseconds' AND interval '10 minutes' THEN
        RAISE EXCEPTION 'deadline: give from 10 milliseconds to 10 minutes, not %', p_deadline USING ERRCODE = 'OM011';
    ELSIF p_history NOT BETWEEN interval '1 day' AND interval '50 years' THEN
        RAISE EXCEPTION 'history: give from 1 day to 50 years, not %', p_history USING ERRCODE = 'OM011';
    ELSIF v_built_from IS NOT NULL AND (p_history IS NOT NULL OR p_all_history) THEN
        RAISE EXCEPTION 'history: % is built from %: set it there', p_view, v_built_from USING ERRCODE = 'OM011';
    END IF;
    UPDATE view_freshness SET max_staleness = coalesce(p_max_staleness, max_staleness),
        deadline = coalesce(p_deadline, deadline), enabled = coalesce(p_enabled, enabled),
        history = CASE WHEN NOT p_all_history THEN coalesce(p_history, history) END
    WHERE view = p_view;
    UPDATE view_states SET failures = 0, retry_at = NULL WHERE view = p_view AND failures > 0;
    RETURN true;
END
$$;

COMMENT ON FUNCTION api.set_view_freshness(text, interval, interval, boolean, interval, boolean) IS
'Sets how stale a view may be, the deadline of its refresh, whether it is refreshed at all and how far back it looks (p_all_history: as far as the shop); what is NULL stays. A failed refresh is tried again at once.';
