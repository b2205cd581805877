CREATE OR REPLACE FUNCTION shop.wants_kind(p_kinds text[], p_kind text) RETURNS boolean
LANGUAGE sql IMMUTABLE
SET search_path = shop, pg_temp
AS $$
    SELECT EXISTS (
        SELECT FROM unnest(p_kinds) AS k
        WHERE k = '*' OR k = p_kind OR (right(k, 2) = '.*' AND starts_with(p_kind, left(k, -1))))
$$;

COMMENT ON FUNCTION shop.wants_kind(text[], text) IS
'Whether a kind of event is one of these: itself, order.* for all that start with order., or * for all.';
