CREATE OR REPLACE FUNCTION shop.take_order_keys(p_requests shop.order_request[], p_kind text, p_terms text)
RETURNS jsonb[]
LANGUAGE plpgsql VOLATILE
SET search_path = shop, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
DECLARE
    v_keys text[];
    v_hashes bytea[];
    v_taken integer;
    v_known jsonb[];
BEGIN
    SELECT array_agg(r.key ORDER BY n), array_agg(request_hash(p_kind || p_terms, ROW(
        r.key, r.customer, r.pool, r.currency, r.ordered_at, r.ship_to, r.skus, r.quantities)::order_request) ORDER BY n)
    INTO v_keys, v_hashes
    FROM unnest(p_requests) WITH ORDINALITY AS r (key, customer, pool, currency, ordered_at, ship_to, skus, quantities, n);
    -- Sorted: keys taken in opposite orders by two statements deadlock every time. Waits for twins in flight.
    INSERT INTO request_keys (key, kind, body_hash)
    SELECT DISTINCT ON (key) key, p_kind, hash FROM unnest(v_keys, v_hashes) WITH ORDINALITY AS k (key, hash, n)
    ORDER BY key, n
    ON CONFLICT (key) DO NOTHING;
    GET DIAGNOSTICS v_taken = ROW_COUNT;
    IF v_taken = cardinality(v_keys) THEN
        RETURN array_fill(NULL::jsonb, ARRAY[v_taken]);
    END IF;
    -- A key that waits in the queue is decided by whoever has this lock first; the other finds the answer.
    PERFORM FROM request_keys WHERE key = ANY (v_keys) ORDER BY key FOR UPDATE;
    SELECT array_agg(CASE
        WHEN s.body_hash <> k.hash THEN key_conflict(k.key)
        WHEN s.answer IS NOT NULL THEN s.answer
        -- A twin in this very batch: it gets the answer of the first, when there is one.
        WHEN k.twin > 1 THEN jsonb_build_object('twin_of', k.first)
    END ORDER BY k.n) INTO v_known
    FROM (
        SELECT key, hash, n, row_number() OVER w AS twin, first_value(n) OVER w AS first
        FROM unnest(v_keys, v_hashes) WITH ORDINALITY AS u (key, hash, n) WINDOW w AS (PARTITION BY key, hash ORDER BY n)
    ) AS k
    JOIN request_keys AS s ON s.key = k.key;
    IF coalesce(cardinality(v_known), 0) < cardinality(v_keys) THEN
        RAISE serialization_failure USING MESSAGE = 'a key was pruned just now; try again';
    END IF;
    RETURN v_known;
END
$$;

COMMENT ON FUNCTION shop.take_order_keys(shop.order_request[], text, text) IS
'Takes and locks the keys of a batch; for each request NULL when it is to be decided now, else its stored outcome, a conflict, or the place of its twin in the batch.';
