CREATE OR REPLACE FUNCTION shop.claims_before(p_claim shop.claims) RETURNS SETOF shop.claims
LANGUAGE sql STABLE
AS $$
    -- A drain places what it claimed at once; a claim that was leased half a second before this one is at rest, or its
    -- drain is dead, and nobody waits for it. Chosen, not measured: much longer than placing a batch takes.
    SELECT c.* FROM shop.claims AS c
    WHERE c.pool_id = p_claim.pool_id AND c.queue_ids[1] < p_claim.queue_ids[1]
        AND c.leased_until > p_claim.leased_until - interval '0.5 s'
$$;

COMMENT ON FUNCTION shop.claims_before(shop.claims) IS
'The claims of older orders of the same pool that drains have in hand.';
