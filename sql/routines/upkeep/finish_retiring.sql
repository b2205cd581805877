CREATE OR REPLACE FUNCTION shop.finish_retiring(p_month date) RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = shop, pg_temp
AS $$
BEGIN
    UPDATE retirements SET finished_at = clock_timestamp()
    WHERE month = p_month AND finished_at IS NULL AND NOT EXISTS (SELECT FROM parts_of_month(p_month));
    RETURN FOUND;
END
$$;

COMMENT ON FUNCTION shop.finish_retiring(date) IS 'Ends the retiring of a month of which no partition is left.';
