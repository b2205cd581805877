CREATE OR REPLACE FUNCTION api.claim_orders(
    p_pool_id integer, p_limit integer, p_lease_seconds integer, p_floor bigint DEFAULT 0,
    p_least integer DEFAULT 1
) RETURNS TABLE (claim_id uuid, orders integer, attempt integer, last_id bigint)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = shop, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
DECLARE
    v_until timestamptz := clock_timestamp() + make_interval(secs => p_lease_seconds);
    v_claim claims;
    v_waiting bigint[];
BEGIN
    -- One after another, so that older orders are never claimed by a transaction that younger ones cannot see yet.
    PERFORM pg_advisory_xact_lock(x'4F4D43'::integer, p_pool_id);
    -- What came back goes first: it is older than anything in the queue.
    UPDATE claims AS c SET leased_until = v_until
    WHERE c.id = (
        SELECT w.id FROM claims AS w WHERE w.pool_id = p_pool_id AND w.leased_until IS NULL
        ORDER BY w.queue_ids[1] LIMIT 1 FOR UPDATE SKIP LOCKED)
    RETURNING c.* INTO v_claim;
    IF NOT FOUND THEN
        IF p_least > 1 THEN
            v_waiting := ARRAY(
                SELECT q.id FROM order_queue AS q
                WHERE q.pool_id = p_pool_id AND q.id > p_floor AND q.claim_id IS NULL
                ORDER BY q.id LIMIT p_least);
            IF cardinality(v_waiting) < p_least THEN
                RETURN QUERY SELECT NULL::uuid, 0, 0, coalesce(v_waiting[1] - 1, p_floor);
                RETURN;
            END IF;
        END IF;
        -- The floor skips the dead rows of what was placed before, which a long snapshot elsewhere keeps from vacuum.
        WITH next AS (
            SELECT q.id FROM order_queue AS q
            WHERE q.pool_id = p_pool_id AND q.id > p_floor AND q.claim_id IS NULL
            ORDER BY q.id LIMIT p_limit FOR UPDATE SKIP LOCKED
        )
        INSERT INTO claims (id, pool_id, queue_ids, leased_until)
        SELECT shop.uuid7(), p_pool_id, array_agg(n.id ORDER BY n.id), v_until FROM next AS n HAVING count(*) > 0
        RETURNING * INTO v_claim;
        IF NOT FOUND THEN
            RETURN;
        END IF;
        UPDATE order_queue AS q SET claim_id = v_claim.id WHERE q.id = ANY (v_claim.queue_ids);
    END IF;
    RETURN QUERY SELECT v_claim.id, cardinality(v_claim.queue_ids), v_claim.attempt,
        v_claim.queue_ids[cardinality(v_claim.queue_ids)];
END
$$;

COMMENT ON FUNCTION api.claim_orders(integer, integer, integer, bigint, integer) IS
'The first of a drain''s two transactions: leases the next orders of a pool, oldest first; no row when there are none. With `p_least` only where so many wait; where fewer do, a row without a claim and the floor to go on from. A lease that runs out is swept back.';
