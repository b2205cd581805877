CREATE OR REPLACE FUNCTION shop.claims_before(p_claim shop.claims) RETURNS SETOF shop.claims
LANGUAGE sql STABLE
AS $$
    -- A drain places what it claimed at once; half a second old, a claim is at rest, or its drain is dead, and nobody waits
    -- for it. Chosen, not measured: much longer than placing a batch takes. By id, for an id is also a time, and dead
    -- rows of older claims are not gone through.
    SELECT c.* FROM shop.claims AS c
    WHERE c.id > shop.uuid7_floor(now() - interval '0.5 s')
        AND c.pool_id = p_claim.pool_id AND c.queue_ids[1] < p_claim.queue_ids[1] AND c.leased_until > now()
$$;

COMMENT ON FUNCTION shop.claims_before(shop.claims) IS
'The claims of older orders of the same pool that drains have in hand.';
