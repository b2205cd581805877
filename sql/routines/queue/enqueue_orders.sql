CREATE OR REPLACE FUNCTION shop.enqueue_orders(
    p_parsed jsonb[], p_typed shop.order_request[], p_refused jsonb[]
) RETURNS jsonb[]
LANGUAGE plpgsql VOLATILE
SET search_path = shop, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
DECLARE
    v_keys text[];
    v_hashes bytea[];
    v_new text[];
    v_queued integer;
    v_outcomes jsonb[];
BEGIN
    SELECT array_agg(coalesce(r.key, CASE WHEN jsonb_typeof(p) = 'object' AND bad_text(p -> 'key') IS NULL THEN p ->> 'key' END)
            ORDER BY n),
        array_agg(CASE WHEN r.key IS NOT NULL THEN request_hash('order.place', ROW(
                r.key, r.customer, r.pool, r.currency, r.ordered_at, r.ship_to, r.skus, r.quantities)::order_request)
            ELSE sha256(convert_to('order.place' || (CASE jsonb_typeof(p) WHEN 'object' THEN p - 'key' END)::text, 'UTF8'))
            END ORDER BY n)
    INTO v_keys, v_hashes
    FROM ROWS FROM (unnest(p_parsed), unnest(p_typed)) WITH ORDINALITY AS r (
        p, key, customer, pool, currency, ordered_at, ship_to, skus, quantities, n);

    -- The first of equal keys speaks for it; keys are taken in sorted order, so that two calls never deadlock.
    WITH taken AS (
        INSERT INTO request_keys (key, kind, body_hash, status, answer, decided_at)
        SELECT DISTINCT ON (key) key, 'order.place', hash,
            CASE WHEN refused IS NULL THEN 'pending' ELSE 'rejected' END,
            outcome(key, 'rejected', NULL, NULL, NULL, NULL) || refused,
            CASE WHEN refused IS NOT NULL THEN clock_timestamp() END
        FROM unnest(v_keys, v_hashes, p_refused) WITH ORDINALITY AS k (key, hash, refused, n)
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
    GET DIAGNOSTICS v_queued = ROW_COUNT;
    IF v_queued = cardinality(v_keys) THEN
        RETURN ARRAY(SELECT outcome(key, 'accepted', NULL, NULL, NULL, NULL)
            FROM unnest(v_keys) WITH ORDINALITY AS k (key, n) ORDER BY n);
    END IF;

    SELECT array_agg(CASE
        WHEN k.key IS NULL THEN outcome(NULL, 'rejected', NULL, NULL, NULL, NULL) || k.refused
        WHEN s.body_hash <> k.hash THEN key_conflict(k.key)
        WHEN s.body_hash = k.hash THEN coalesce(s.answer, outcome(k.key, 'accepted', NULL, NULL, NULL, NULL))
    END ORDER BY k.n) INTO v_outcomes
    FROM unnest(v_keys, v_hashes, p_refused) WITH ORDINALITY AS k (key, hash, refused, n)
    LEFT JOIN request_keys AS s ON s.key = k.key
    WHERE k.n <= cardinality(v_keys);
    IF array_position(v_outcomes, NULL) IS NOT NULL THEN
        RAISE serialization_failure USING MESSAGE = 'a key was pruned just now; try again';
    END IF;
    RETURN v_outcomes;
END
$$;

COMMENT ON FUNCTION shop.enqueue_orders(jsonb[], shop.order_request[], jsonb[]) IS 'Takes the keys of checked requests, queues the new ones, stores the refused ones, and gives an outcome each.';
