CREATE OR REPLACE FUNCTION api.finish_alert_notice(
    p_id uuid, p_attempt integer, p_error text DEFAULT NULL, p_again_in interval DEFAULT NULL
) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = shop, pg_temp
AS $$
BEGIN
    IF p_error IS NULL THEN
        -- Whoever has it by now: it is sent.
        UPDATE alert_notices SET sent_at = clock_timestamp(), leased_until = NULL, last_error = NULL
        WHERE id = p_id AND sent_at IS NULL;
        RETURN 'sent';
    END IF;
    PERFORM FROM alert_notices WHERE id = p_id AND attempts = p_attempt AND sent_at IS NULL FOR UPDATE;
    IF NOT FOUND THEN
        RETURN 'lost';
    ELSIF p_again_in IS NULL THEN
        PERFORM bury_notice(p_id, p_error);
        RETURN 'dead';
    END IF;
    UPDATE alert_notices
    SET due_at = clock_timestamp() + p_again_in, leased_until = NULL, last_error = p_error
    WHERE id = p_id;
    RETURN 'again';
END
$$;

COMMENT ON FUNCTION api.finish_alert_notice(uuid, integer, text, interval) IS
'Ends an attempt at a notice: sent; or with its error, to be tried again in so long, or a dead letter without that. Gives sent, again, dead, or lost when another attempt has it.';
