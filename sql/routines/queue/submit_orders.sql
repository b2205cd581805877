CREATE OR REPLACE FUNCTION api.submit_orders(p_requests text[]) RETURNS SETOF jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER ROWS 100
SET search_path = shop, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
DECLARE
    v_parsed jsonb[];
BEGIN
    p_requests := ARRAY(SELECT t FROM unnest(p_requests) WITH ORDINALITY AS r (t, n) ORDER BY n); -- counted from 1
    -- One subtransaction for all that can be read; one each only when something cannot.
    BEGIN
        v_parsed := p_requests::jsonb[];
    EXCEPTION WHEN data_exception OR statement_too_complex OR program_limit_exceeded THEN
        SELECT array_agg(parse_request(t) ORDER BY n) INTO v_parsed FROM unnest(p_requests) WITH ORDINALITY AS r (t, n);
    END;
    RETURN QUERY SELECT o FROM unnest(submit_many(v_parsed)) WITH ORDINALITY AS u (o, n) ORDER BY n;
END
$$;

COMMENT ON FUNCTION api.submit_orders(text[]) IS
'Takes orders into the queue within your own transaction and gives an outcome each, in order: accepted, rejected, refused, or what the key came to before. Up to a few hundred at once is best.';

CREATE OR REPLACE FUNCTION api.submit_orders(p_requests jsonb) RETURNS SETOF jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER ROWS 100
SET search_path = shop, pg_temp
AS $$
BEGIN
    RETURN QUERY
    SELECT o FROM unnest(submit_many(ARRAY(
        SELECT r FROM jsonb_array_elements(
            CASE jsonb_typeof(p_requests) WHEN 'array' THEN p_requests ELSE jsonb_build_array(p_requests) END
        ) WITH ORDINALITY AS requests (r, n) ORDER BY n))) WITH ORDINALITY AS u (o, n) ORDER BY n;
END
$$;

COMMENT ON FUNCTION api.submit_orders(jsonb) IS 'The same for a JSON list of orders.';
