CREATE OR REPLACE FUNCTION api.queue_wait(p_pool_id integer, p_max_wait interval) RETURNS interval
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = shop, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
DECLARE
    v_now timestamptz := clock_timestamp();
    v_wait interval;
    v_looked_at timestamptz;
    v_floor bigint;
BEGIN
    SELECT expected_wait, looked_at, floor_id INTO v_wait, v_looked_at, v_floor FROM queue_looks WHERE pool_id = p_pool_id;
    IF isfinite(v_looked_at) AND v_now - v_looked_at BETWEEN - p_max_wait AND p_max_wait THEN
        RETURN v_wait;
    END IF;
    -- No drain has looked for so long: none is at work, or there was nothing to take. Then what the next to be taken has
    -- waited is known without counting. What is below the floor was taken: its dead rows are passed by.
    SELECT v_now - received_at INTO v_wait FROM order_queue
    WHERE pool_id = p_pool_id AND id > coalesce(v_floor, 0) AND claim_id IS NULL ORDER BY id LIMIT 1;
    RETURN coalesce(v_wait, interval '0');
END
$$;

COMMENT ON FUNCTION api.queue_wait(integer, interval) IS
'How long an order that is submitted now would wait about, in a pool where it may wait so long; nothing is counted or locked.';
