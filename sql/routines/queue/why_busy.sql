CREATE OR REPLACE FUNCTION shop.why_busy(p_pool_id integer, p_pool text, p_max_wait interval) RETURNS text
LANGUAGE plpgsql VOLATILE
SET search_path = shop, pg_temp
AS $$
DECLARE
    v_wait interval := api.queue_wait(p_pool_id, p_max_wait);
BEGIN
    -- By chance from half of the limit on, and the more the nearer: else all that comes between two looks is let in, then
    -- nothing, and many wait for longer than the limit (random early detection).
    IF v_wait > p_max_wait * (0.5 + random() / 2) THEN
        RETURN format(
            'Pool %s is too busy: orders wait about %s s there, of %s s that they may. Send it again under this key in %s s.',
            p_pool, round(extract(EPOCH FROM v_wait), 1), trim_scale(extract(EPOCH FROM p_max_wait)),
            ceil(extract(EPOCH FROM v_wait)));
    END IF;
    RETURN NULL;
END
$$;

COMMENT ON FUNCTION shop.why_busy(integer, text, interval) IS
'Why a pool in which an order may wait so long takes none now, and when to try again; NULL when it takes them.';
