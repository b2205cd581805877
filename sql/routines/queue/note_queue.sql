CREATE OR REPLACE FUNCTION api.note_queue(p_pool_id integer, p_taken integer, p_floor bigint) RETURNS double precision
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = shop, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
DECLARE
    v_look queue_looks;
    v_most double precision; -- seconds, as are the next two
    v_pause double precision;
    v_passed double precision;
    v_seen double precision; -- orders a second since the last look
    v_waiting bigint;
    v_oldest timestamptz;
BEGIN
    SELECT extract(EPOCH FROM max_wait) INTO v_most FROM pools WHERE id = p_pool_id;
    IF v_most IS NULL THEN
        RETURN 5;
    END IF;
    v_pause := least(greatest(v_most / 10, 0.05), 5);
    -- What is lost in a crash is seen again at the next look.
    PERFORM set_config('synchronous_commit', 'off', true);
    INSERT INTO queue_looks (pool_id) VALUES (p_pool_id) ON CONFLICT (pool_id) DO NOTHING;
    SELECT * INTO v_look FROM queue_looks WHERE pool_id = p_pool_id FOR NO KEY UPDATE;
    v_passed := CASE WHEN isfinite(v_look.looked_at) THEN extract(EPOCH FROM clock_timestamp() - v_look.looked_at) END;
    IF v_passed BETWEEN 0 AND v_pause / 2 THEN
        -- Another drain of this pool has just looked; how fast it goes is what both take.
        UPDATE queue_looks SET taken = taken + p_taken WHERE pool_id = p_pool_id;
        RETURN v_pause;
    END IF;
    -- Enough to tell whether they are too many: what a look costs does not grow with the queue.
    SELECT count(*), min(q.received_at) INTO v_waiting, v_oldest
    FROM (
        SELECT received_at FROM order_queue
        WHERE pool_id = p_pool_id AND id > p_floor AND claim_id IS NULL
        ORDER BY id LIMIT greatest(1000, (2 * v_look.rate * v_most)::bigint)) AS q;
    v_seen := CASE WHEN v_passed > 0 THEN nullif(v_look.taken + p_taken, 0) / v_passed END;
    -- How fast it goes shows only while there is always one to take; else it is known to be at least that fast. A look that
    -- comes later than a slow round of the drain takes does not know what was there meanwhile.
    v_look.rate := CASE
        WHEN v_look.waiting > 0 AND v_waiting > 0 AND v_passed < least(6 * v_pause, 15) AND v_seen > 0
            THEN (coalesce(v_look.rate, v_seen) + v_seen) / 2
        WHEN v_seen > v_look.rate THEN v_seen
        ELSE v_look.rate END;
    UPDATE queue_looks SET looked_at = clock_timestamp(), waiting = v_waiting, rate = v_look.rate, taken = 0,
        floor_id = p_floor,
        expected_wait = coalesce(
            make_interval(secs => v_waiting / v_look.rate), clock_timestamp() - v_oldest, interval '0')
    WHERE pool_id = p_pool_id;
    RETURN v_pause;
END
$$;

COMMENT ON FUNCTION api.note_queue(integer, integer, bigint) IS
'A drain''s look at the queue of a pool with a limit: how many wait behind its floor, and how fast they are taken. Gives the seconds until its next; call it in a transaction of its own.';
