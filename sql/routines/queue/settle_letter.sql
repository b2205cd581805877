CREATE OR REPLACE FUNCTION api.settle_letter(p_id uuid, p_settlement text) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = shop, pg_temp
AS $$
BEGIN
    -- Whoever replays does so in this transaction: a twin waits here, and finds nothing left to do.
    UPDATE dead_letters SET settled_at = clock_timestamp(), settlement = p_settlement
    WHERE id = p_id AND settled_at IS NULL;
    RETURN FOUND;
END
$$;

COMMENT ON FUNCTION api.settle_letter(uuid, text) IS
'Closes a dead letter as replayed or discarded; false when there is no such letter, or it is closed already. What it was about stays as it is: a discarded order''s key stays dead.';
