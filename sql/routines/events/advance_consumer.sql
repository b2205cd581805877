CREATE OR REPLACE FUNCTION api.advance_consumer(p_consumer text, p_after bigint, p_position bigint) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = shop, pg_temp
AS $$
BEGIN
    -- Only from where it was read: a twin was quicker, or somebody had it start again from an earlier position.
    UPDATE event_consumers SET position = p_position, moved_at = clock_timestamp()
    WHERE consumer = p_consumer AND outside AND position = p_after AND p_position > p_after;
    RETURN FOUND;
END
$$;

COMMENT ON FUNCTION api.advance_consumer(text, bigint, bigint) IS
'Moves the cursor of a consumer outside the database, once the effect of what it read is done; false when the cursor was moved meanwhile.';
