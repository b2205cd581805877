CREATE OR REPLACE FUNCTION api.queue_wait(p_pool_id integer, p_max_wait interval) RETURNS interval
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = shop, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
DECLARE
    v_now timestamptz := clock_timestamp();
    v_wait interval;
    v_look queue_looks;
    v_passed interval;
BEGIN
    SELECT * INTO v_look FROM queue_looks WHERE pool_id = p_pool_id;
    v_passed := v_now - nullif(v_look.looked_at, '-infinity');
    IF v_passed BETWEEN - p_max_wait AND p_max_wait THEN
        IF v_look.rate IS NULL THEN
            RETURN v_look.expected_wait;
        END IF;
        -- What came since the look shows in the numbers that the queue gave since, and costs no counting. What went since
        -- is taken off, for no longer than until the next look was due: a drain that missed it perhaps places none.
        RETURN greatest(interval '0', v_look.expected_wait - least(greatest(interval '0', v_passed), look_pause(p_max_wait))
            + make_interval(secs => v_look.share / v_look.rate
                * greatest(0, (SELECT last_value FROM order_queue_id_seq) - v_look.last_id)));
    END IF;
    -- No drain has looked for so long: none is at work, or there was nothing to take. Then what the next to be taken has
    -- waited is known without counting. What is below the floor was taken: its dead rows are passed by.
    SELECT v_now - received_at INTO v_wait FROM order_queue
    WHERE pool_id = p_pool_id AND id > coalesce(v_look.floor_id, 0) AND claim_id IS NULL ORDER BY id LIMIT 1;
    RETURN coalesce(v_wait, interval '0');
END
$$;

COMMENT ON FUNCTION api.queue_wait(integer, interval) IS
'How long an order that is submitted now would wait about, in a pool where it may wait so long; nothing is counted or locked.';
