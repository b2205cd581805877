CREATE OR REPLACE FUNCTION api.count_attempt(p_message text) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = shop, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
DECLARE
    v_attempts integer;
BEGIN
    INSERT INTO message_attempts AS m (message, attempts) VALUES (message_name(coalesce(p_message, '')), 1)
    ON CONFLICT (message) DO UPDATE SET attempts = m.attempts + 1, last_at = clock_timestamp()
    RETURNING attempts INTO v_attempts;
    RETURN v_attempts;
END
$$;

COMMENT ON FUNCTION api.count_attempt(text) IS
'Counts an attempt at a message whose worker died before, and gives how many there were. Its own transaction: the count outlives the worker that this attempt kills.';
