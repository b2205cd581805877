CREATE OR REPLACE FUNCTION shop.enqueue_orders(
    p_parsed jsonb[], p_typed shop.order_request[], p_refused jsonb[]
) RETURNS SETOF jsonb
LANGUAGE plpgsql VOLATILE ROWS 100
SET search_path = shop, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
DECLARE
    v_keys text[];
    v_hashes bytea[];
    v_new text[];
    v_outcomes jsonb[];
BEGIN
    -- The first of equal keys speaks for it; keys are taken in sorted order, so that two calls never deadlock.
    SELECT array_agg(CASE WHEN jsonb_typeof(p) = 'object' AND bad_text(p -> 'key') IS NULL THEN p ->> 'key' END ORDER BY n),
        array_agg(CASE WHEN p_typed[n] IS DISTINCT FROM NULL THEN request_hash('order.place', p_typed[n])
            ELSE sha256(convert_to('order.place' || (CASE jsonb_typeof(p) WHEN 'object' THEN p - 'key' END)::text, 'UTF8'))
            END ORDER BY n)
    INTO v_keys, v_hashes
    FROM unnest(p_parsed) WITH ORDINALITY AS r (p, n);

    WITH taken AS (
        INSERT INTO request_keys (key, kind, body_hash, status, answer, decided_at)
        SELECT DISTINCT ON (key) key, 'order.place', hash,
            CASE WHEN p_refused[n] IS NULL THEN 'pending' ELSE 'rejected' END,
            outcome(key, 'rejected', NULL, NULL, NULL, NULL) || p_refused[n],
            CASE WHEN p_refused[n] IS NOT NULL THEN clock_timestamp() END
        FROM unnest(v_keys, v_hashes) WITH ORDINALITY AS k (key, hash, n)
        WHERE key IS NOT NULL
        ORDER BY key, n
        ON CONFLICT (key) DO NOTHING
        RETURNING key, status
    )
    SELECT array_agg(key) INTO v_new FROM taken WHERE status = 'pending';

    INSERT INTO order_queue (pool_id, key, customer, pool, currency, ordered_at, ship_to, skus, quantities)
    SELECT p.id, t.key, t.customer, t.pool, t.currency, t.ordered_at, t.ship_to, t.skus, t.quantities
    FROM (
        SELECT DISTINCT ON (u.key) u.* FROM unnest(p_typed) WITH ORDINALITY AS u (
            key, customer, pool, currency, ordered_at, ship_to, skus, quantities, n)
        WHERE u.key = ANY (v_new) ORDER BY u.key, u.n
    ) AS t
    JOIN pools AS p ON p.code = t.pool
    ORDER BY t.n;

    SELECT array_agg(CASE
        WHEN k.key IS NULL THEN outcome(NULL, 'rejected', NULL, NULL, NULL, NULL) || p_refused[k.n]
        WHEN s.body_hash <> k.hash THEN key_conflict(k.key)
        WHEN s.body_hash = k.hash THEN coalesce(s.answer, outcome(k.key, 'accepted', NULL, NULL, NULL, NULL))
    END ORDER BY k.n) INTO v_outcomes
    FROM unnest(v_keys, v_hashes) WITH ORDINALITY AS k (key, hash, n)
    LEFT JOIN request_keys AS s ON s.key = k.key;
    IF array_position(v_outcomes, NULL) IS NOT NULL THEN
        RAISE serialization_failure USING MESSAGE = 'a key was pruned just now; try again';
    END IF;
    RETURN QUERY SELECT o FROM unnest(v_outcomes) WITH ORDINALITY AS u (o, n) ORDER BY n;
END
$$;

COMMENT ON FUNCTION shop.enqueue_orders(jsonb[], shop.order_request[], jsonb[]) IS 'Takes the keys of checked requests, queues the new ones, stores the refused ones, and gives an outcome each.';
