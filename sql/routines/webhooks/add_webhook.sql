CREATE OR REPLACE FUNCTION api.add_webhook(
    p_name text, p_url text, p_kinds text[] DEFAULT '{*}', p_timeout_ms integer DEFAULT 10000
) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = shop, pg_temp
AS $$
DECLARE
    v_secret text := new_webhook_secret();
    v_problem text := CASE
        WHEN coalesce(p_name !~ '^[a-z0-9][a-z0-9_-]{0,59}$', true) THEN
            'name: give up to 60 small letters, digits, - and _'
        WHEN coalesce(length(p_url) > 2000 OR p_url !~ '^https?://[^[:space:]/?#@\\]+([/?][^[:space:]#\\]*)?$', true) THEN
            'url: give an https:// address without a user, a password or a fragment'
        WHEN coalesce(cardinality(p_kinds), 0) NOT BETWEEN 1 AND 100 OR EXISTS (
            SELECT FROM unnest(p_kinds) AS k
            WHERE coalesce(k !~ '^(\*|[a-z][a-z_]*(\.[a-z][a-z_]*)*(\.\*)?)$', true)) THEN
            'kinds: give 1 to 100 such as order.placed, order.* or *'
        WHEN coalesce(p_timeout_ms NOT BETWEEN 100 AND 60000, true) THEN
            'timeout: give 100 to 60000 ms'
    END;
BEGIN
    IF v_problem IS NOT NULL THEN
        RAISE EXCEPTION '%', v_problem USING ERRCODE = 'OM042';
    END IF;
    INSERT INTO webhook_endpoints (name, url, kinds, secret, timeout_ms, since_position)
    SELECT p_name, p_url, p_kinds, v_secret, p_timeout_ms, h.position FROM event_head AS h
    ON CONFLICT (name) DO NOTHING;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is a webhook endpoint % already', p_name USING ERRCODE = 'OM041';
    END IF;
    RETURN v_secret;
END
$$;

COMMENT ON FUNCTION api.add_webhook(text, text, text[], integer) IS
'Adds an endpoint, which is told what happens from now on, and gives its secret: this once.';
