CREATE OR REPLACE FUNCTION shop.why_busy(p_pool_id integer, p_pool text, p_max_wait interval) RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = shop, pg_temp
AS $$
DECLARE
    v_wait interval := api.queue_wait(p_pool_id, p_max_wait);
BEGIN
    IF v_wait > p_max_wait THEN
        RETURN format(
            'Pool %s is too busy: an order would wait about %s s, and may wait %s s. Send it again under this key in %s s.',
            p_pool, round(extract(EPOCH FROM v_wait), 1), trim_scale(extract(EPOCH FROM p_max_wait)),
            ceil(extract(EPOCH FROM v_wait)));
    END IF;
    RETURN NULL;
END
$$;

COMMENT ON FUNCTION shop.why_busy(integer, text, interval) IS
'Why a pool in which an order may wait so long takes none now, and when to try again; NULL when it takes them.';
