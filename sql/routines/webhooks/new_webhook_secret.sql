CREATE OR REPLACE FUNCTION shop.new_webhook_secret() RETURNS text
LANGUAGE sql VOLATILE
SET search_path = shop, pg_temp
AS $$
    -- Made here, so that it is in no statement that a server may log. Three UUIDs have 366 random bits.
    SELECT 'whsec_' || encode(sha256(
        uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())), 'base64')
$$;

COMMENT ON FUNCTION shop.new_webhook_secret() IS
'A new secret in the form of Standard Webhooks: whsec_ and 32 random bytes in base64.';
