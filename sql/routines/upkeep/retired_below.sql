CREATE OR REPLACE FUNCTION shop.retired_below() RETURNS uuid
LANGUAGE sql STABLE
SET search_path = shop, pg_temp
AS $$
    SELECT coalesce(
        (SELECT uuid7_floor((max(month) + interval '1 month') AT TIME ZONE 'UTC') FROM retirements),
        '00000000-0000-0000-0000-000000000000')
$$;

COMMENT ON FUNCTION shop.retired_below() IS
'Rows with lower ids are retired, or about to be; `verify` starts at this id, from the opening balances.';
