CREATE OR REPLACE FUNCTION api.consumer_position(p_consumer text) RETURNS bigint
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = shop, pg_temp
AS $$
    SELECT position FROM event_consumers WHERE consumer = p_consumer
$$;

COMMENT ON FUNCTION api.consumer_position(text) IS 'The position of the last event whose effect a consumer has.';
