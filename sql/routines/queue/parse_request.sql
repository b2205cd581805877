CREATE OR REPLACE FUNCTION shop.parse_request(p_text text) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE
SET search_path = shop, pg_temp
AS $$
BEGIN
    RETURN p_text::jsonb;
EXCEPTION WHEN data_exception OR statement_too_complex OR program_limit_exceeded THEN
    -- jsonb cannot hold a NUL, a lone surrogate or a NaN. Mark them, so that the field they are in can be named.
    BEGIN
        RETURN regexp_replace(
            regexp_replace(p_text, '\\u(0000|[dD][89a-fA-F][0-9a-fA-F]{2})', '\\ufdd0', 'g'),
            '([:\[,]\s*)([-+]?(?:NaN|Infinity))(?=\s*[,}\]])', '\1"\\ufdd0\2"', 'g')::jsonb;
    EXCEPTION WHEN data_exception OR statement_too_complex OR program_limit_exceeded THEN
        RETURN NULL;
    END;
END
$$;

COMMENT ON FUNCTION shop.parse_request(text) IS
'Reads any text as JSON: NULL when it is none; what PostgreSQL cannot hold in it becomes U+FDD0, which no field accepts.';
