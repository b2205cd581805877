CREATE OR REPLACE FUNCTION shop.delivery_attempts(p_results jsonb)
RETURNS TABLE (
    endpoint_id integer, stream text, "position" bigint, ok boolean, status integer, error text, ms integer, -- noqa: RF06
    gone boolean, retry_after double precision
)
LANGUAGE sql IMMUTABLE
SET search_path = shop, pg_temp
AS $$
    SELECT r.endpoint_id, r.stream, t.position, t.ok, t.status, left(t.error, 500), t.ms, coalesce(t.gone, false),
        t.retry_after
    FROM jsonb_to_recordset(p_results) AS r (endpoint_id integer, stream text, sent jsonb)
    CROSS JOIN LATERAL jsonb_to_recordset(r.sent) AS t (
        "position" bigint, ok boolean, status integer, error text, ms integer, gone boolean,
        retry_after double precision)
$$;

COMMENT ON FUNCTION shop.delivery_attempts(jsonb) IS
'The attempts among results of streams; gone: the event is not there any more.';
