CREATE OR REPLACE FUNCTION shop.bad_text(p_value jsonb) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
    -- U+FDD0 stands for a NUL or a lone surrogate: shop.parse_request puts it where PostgreSQL cannot hold the character.
    SELECT CASE
        WHEN p_value IS NULL OR jsonb_typeof(p_value) <> 'string' THEN 'Give a text of 1 to 200 characters.'
        WHEN char_length(p_value #>> '{}') NOT BETWEEN 1 AND 200 THEN 'Give a text of 1 to 200 characters.'
        WHEN (p_value #>> '{}') ~ '[\u0001-\u001f\u007f\ufdd0]' THEN
            'Take out the NUL or control character; give a text of 1 to 200 printable characters.'
    END
$$;

COMMENT ON FUNCTION shop.bad_text(jsonb) IS 'What is wrong with a name, code or key as a sentence; NULL when it can be used.';
