CREATE OR REPLACE FUNCTION api.replay_order(p_letter_id uuid) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = shop, pg_temp
AS $$
DECLARE
    v_letter dead_letters;
    v_request order_request;
    v_refused jsonb;
    v_outcome jsonb;
BEGIN
    SELECT * INTO v_letter FROM dead_letters
    WHERE id = p_letter_id AND settled_at IS NULL AND key IS NOT NULL AND payload ? 'skus' FOR UPDATE;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    v_request := jsonb_populate_record(NULL::order_request, v_letter.payload);
    IF NOT EXISTS (SELECT FROM pools WHERE code = v_request.pool) THEN
        v_refused := to_jsonb(('OM004', 'pool', format('There is no pool %s.', v_request.pool))::problem);
    END IF;
    -- Only the death of this very order: since then the key may have been pruned, and be another's.
    DELETE FROM request_keys
    WHERE key = v_letter.key AND status = 'dead' AND body_hash = request_hash('order.place', v_request);
    v_outcome := (enqueue_orders(ARRAY[v_letter.payload], ARRAY[v_request], ARRAY[v_refused]))[1];
    IF v_outcome ->> 'code' IS DISTINCT FROM 'OM010' THEN
        PERFORM api.settle_letter(p_letter_id, 'replayed');
    END IF;
    RETURN v_outcome;
END
$$;

COMMENT ON FUNCTION api.replay_order(uuid) IS
'Frees the key of a dead order and puts the order into the queue behind the SQL door, to be decided anew; gives its outcome until then, or OM010 when another order has its key now. NULL when there is no such letter to replay.';
