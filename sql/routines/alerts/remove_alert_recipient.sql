CREATE OR REPLACE FUNCTION api.remove_alert_recipient(p_id bigint) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = shop, pg_temp
AS $$
DECLARE
    v_address text;
BEGIN
    DELETE FROM alert_recipients WHERE id = p_id RETURNING address INTO v_address;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    DELETE FROM alert_notices AS n
    WHERE n.address = v_address AND n.sent_at IS NULL
        AND NOT EXISTS (SELECT FROM alert_recipients AS r WHERE r.address = v_address);
    RETURN true;
END
$$;

COMMENT ON FUNCTION api.remove_alert_recipient(bigint) IS
'Has an address told no more; once it is listed nowhere, what was still to be sent to it is dropped. False when there is no such recipient.';
