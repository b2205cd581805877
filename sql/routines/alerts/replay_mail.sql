CREATE OR REPLACE FUNCTION api.replay_mail(p_letter_id uuid) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = shop, pg_temp
AS $$
DECLARE
    v_letter dead_letters;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('ordermill.alerts'));
    SELECT * INTO v_letter FROM dead_letters
    WHERE id = p_letter_id AND settled_at IS NULL AND source = 'mail' FOR UPDATE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM gather_notices(array_agg(v_letter.payload ->> 'address'), array_agg(i::bigint))
    FROM jsonb_array_elements_text(v_letter.payload -> 'alert_ids') AS i;
    RETURN api.settle_letter(p_letter_id, 'replayed');
END
$$;

COMMENT ON FUNCTION api.replay_mail(uuid) IS
'Has the alerts of a mail that could not be sent told again, those that are not resolved, and closes its letter, in one transaction; false when there is no such letter to replay.';
