CREATE OR REPLACE FUNCTION shop.await_earlier_claims(p_claim shop.claims) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = shop, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
DECLARE
    v_until timestamptz := clock_timestamp() + interval '0.5 s';
BEGIN
    -- Looked for, not locked: a lock on a claim would keep its own drain from placing it.
    WHILE clock_timestamp() < v_until AND EXISTS (SELECT FROM claims_before(p_claim)) LOOP
        PERFORM pg_sleep(0.002);
    END LOOP;
END
$$;

COMMENT ON FUNCTION shop.await_earlier_claims(shop.claims) IS
'Returns when no drain has older orders of this claim''s pool in hand, so that who came first is served first where not all can be served; after half a second in any case, for such a drain may be dead.';
