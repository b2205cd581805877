CREATE OR REPLACE FUNCTION shop.retry_delay(
    p_attempts integer, p_first double precision, p_most double precision, p_retry_after double precision
) RETURNS interval
LANGUAGE sql VOLATILE
SET search_path = shop, pg_temp
AS $$
    SELECT make_interval(secs => least(p_most, greatest(
        coalesce(p_retry_after, 0),
        least(p_most, p_first * power(4, least(p_attempts - 1, 20))) * (0.8 + 0.4 * random()))))
$$;

COMMENT ON FUNCTION shop.retry_delay(integer, double precision, double precision, double precision) IS
'How long until the next attempt: four times the one before, give or take a fifth, at least what the other side asked for, and never more than the most.';
