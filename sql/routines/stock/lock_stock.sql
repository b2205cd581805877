CREATE OR REPLACE FUNCTION shop.lock_stock(p_variant_ids bigint[], p_location_ids integer[]) RETURNS shop.stock_levels[]
LANGUAGE plpgsql VOLATILE
SET search_path = shop, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
BEGIN
    -- One order for everybody, sorted below the lock, is what keeps two baskets from deadlocking.
    -- NO KEY UPDATE lets foreign keys to these rows pass. What a lock waited for is read anew, so these are the levels as
    -- the last holder left them.
    RETURN (
        SELECT coalesce(array_agg(locked.l), '{}')
        FROM (
            SELECT l FROM stock_levels AS l
            JOIN (SELECT DISTINCT v, p FROM unnest(p_variant_ids, p_location_ids) AS u (v, p)) AS w
                ON l.variant_id = w.v AND l.location_id = w.p
            ORDER BY l.variant_id, l.location_id
            FOR NO KEY UPDATE OF l
        ) AS locked);
END
$$;

COMMENT ON FUNCTION shop.lock_stock(bigint[], integer[]) IS
'Locks the levels of these (variant, location) pairs in the one global order and gives those that are there, as they are now. Once a transaction; what was read of a level before is only a guess. Decide by no others, for a level made since is not locked.';
