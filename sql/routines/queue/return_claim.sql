CREATE OR REPLACE FUNCTION api.return_claim(
    p_claim_id uuid, p_max_attempts integer, p_code text, p_reason text
) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = shop, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
DECLARE
    v_claim claims;
    v_half integer;
BEGIN
    DELETE FROM claims WHERE id = p_claim_id RETURNING * INTO v_claim;
    IF NOT FOUND THEN
        RETURN 'gone';
    END IF;
    v_half := (cardinality(v_claim.queue_ids) + 1) / 2;
    IF cardinality(v_claim.queue_ids) > 1 THEN
        -- Halves lead to the one order that kills in a few steps; the others are placed on the way. Only tries made
        -- alone count: an order must not die at its first for what its neighbours did.
        WITH halves AS (
            INSERT INTO claims (id, pool_id, queue_ids, attempt)
            VALUES (shop.uuid7(), v_claim.pool_id, v_claim.queue_ids[:v_half], 1),
                (shop.uuid7(), v_claim.pool_id, v_claim.queue_ids[v_half + 1:], 1)
            RETURNING id, queue_ids
        )
        UPDATE order_queue AS q SET claim_id = h.id FROM halves AS h WHERE q.id = ANY (h.queue_ids);
        RETURN 'halved';
    ELSIF v_claim.attempt < p_max_attempts THEN
        -- Under a new id, as halves are: whoever gives the old one back once more must not take it from its next drain.
        WITH again AS (
            INSERT INTO claims (id, pool_id, queue_ids, attempt)
            VALUES (shop.uuid7(), v_claim.pool_id, v_claim.queue_ids, v_claim.attempt + 1)
            RETURNING id, queue_ids
        )
        UPDATE order_queue AS q SET claim_id = a.id FROM again AS a WHERE q.id = ANY (a.queue_ids);
        RETURN 'returned';
    END IF;
    WITH gone AS (
        DELETE FROM order_queue WHERE id = ANY (v_claim.queue_ids)
        RETURNING ROW(key, customer, pool, currency, ordered_at, ship_to, skus, quantities)::order_request AS request
    )
    SELECT bury(to_jsonb(request), 'sql', p_code, p_reason, v_claim.attempt) INTO p_reason FROM gone;
    RETURN 'dead';
END
$$;

COMMENT ON FUNCTION api.return_claim(uuid, integer, text, text) IS
'Gives back a claim that failed: in halves, uncounted; one order alone with one more attempt, and at the last it becomes a dead letter. Says which: halved, returned, dead; gone when somebody else has it.';
