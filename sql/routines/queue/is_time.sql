CREATE OR REPLACE FUNCTION shop.is_time(p_text text) RETURNS boolean
LANGUAGE sql IMMUTABLE
SET search_path = shop, pg_temp
AS $$
    -- By arithmetic and not by a cast that may fail: an EXCEPTION block would cost a subtransaction.
    SELECT coalesce(p_text ~ ('^(?!0000)\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])T([01]\d|2[0-3]):[0-5]\d'
            '(:[0-5]\d(\.\d{1,6})?)?(Z|[+-](0\d|1[0-4]):[0-5]\d)$')
        AND CASE substring(p_text FROM 6 FOR 2)
            WHEN '02' THEN substring(p_text FROM 9 FOR 2)::integer <= 28
                OR (substring(p_text FROM 9 FOR 2) = '29'
                    AND (left(p_text, 4)::integer % 4 = 0 AND left(p_text, 4)::integer % 100 <> 0
                        OR left(p_text, 4)::integer % 400 = 0))
            WHEN '04' THEN substring(p_text FROM 9 FOR 2) <> '31'
            WHEN '06' THEN substring(p_text FROM 9 FOR 2) <> '31'
            WHEN '09' THEN substring(p_text FROM 9 FOR 2) <> '31'
            WHEN '11' THEN substring(p_text FROM 9 FOR 2) <> '31'
            ELSE true END, false)
$$;

COMMENT ON FUNCTION shop.is_time(text) IS 'Whether a text is an RFC 3339 time of a day that exists, with its offset.';
