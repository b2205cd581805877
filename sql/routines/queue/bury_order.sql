CREATE OR REPLACE FUNCTION api.bury_order(p_request jsonb, p_code text, p_reason text, p_attempts integer) RETURNS jsonb
LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = shop, pg_temp
AS $$
    SELECT bury(p_request, 'celery', p_code, p_reason, p_attempts)
$$;

COMMENT ON FUNCTION api.bury_order(jsonb, text, text, integer) IS 'For the Celery door: an order (typed values) that the database refuses for a reason no retry can mend.';
