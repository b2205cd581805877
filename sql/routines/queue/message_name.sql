CREATE OR REPLACE FUNCTION shop.message_name(p_message text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
    -- The client chooses a task's id, and no index holds more than 2,700 bytes.
    SELECT CASE WHEN char_length(p_message) <= 200 THEN p_message ELSE md5(p_message) || ' ' || left(p_message, 160) END
$$;

COMMENT ON FUNCTION shop.message_name(text) IS 'A message''s id as it can be a key, however long it is; different ids stay different.';
