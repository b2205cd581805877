CREATE OR REPLACE FUNCTION shop.kept_for(p_kind text) RETURNS interval
LANGUAGE sql STABLE
SET search_path = shop, pg_temp
AS $$
    SELECT keep FROM retention_policies WHERE kind = p_kind
$$;

COMMENT ON FUNCTION shop.kept_for(text) IS 'How long rows of a kind are kept; NULL, so for ever, when there is no policy.';
