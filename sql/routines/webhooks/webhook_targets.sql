CREATE OR REPLACE FUNCTION api.webhook_targets()
RETURNS TABLE (id integer, name text, url text, secrets text[], timeout_ms integer, failing boolean)
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = shop, pg_temp
AS $$
    SELECT w.id, w.name, w.url,
        CASE WHEN w.previous_until > clock_timestamp() THEN ARRAY[w.secret, w.previous_secret] ELSE ARRAY[w.secret] END,
        w.timeout_ms, w.failures > 0
    FROM webhook_endpoints AS w WHERE w.disabled_at IS NULL ORDER BY w.id
$$;

COMMENT ON FUNCTION api.webhook_targets() IS
'The endpoints that are not stopped, with the secrets to sign with: only for those who deliver.';
