CREATE OR REPLACE FUNCTION api.forget_attempt(p_message text, p_all boolean DEFAULT true) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = shop, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
DECLARE
    v_message text := message_name(coalesce(p_message, ''));
    v_attempts integer;
BEGIN
    -- Locked first, so that two at once take off two.
    SELECT attempts INTO v_attempts FROM message_attempts WHERE message = v_message FOR UPDATE;
    IF NOT FOUND THEN
        RETURN 0;
    ELSIF p_all OR v_attempts = 1 THEN
        DELETE FROM message_attempts WHERE message = v_message;
        RETURN 0;
    END IF;
    UPDATE message_attempts SET attempts = attempts - 1 WHERE message = v_message;
    RETURN v_attempts - 1;
END
$$;

COMMENT ON FUNCTION api.forget_attempt(text, boolean) IS
'Takes back what api.count_attempt counted: all of it when the message was decided, else the last attempt, which was not the message''s fault. Gives how many are left.';
