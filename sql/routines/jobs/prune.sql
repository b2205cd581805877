CREATE OR REPLACE FUNCTION api.prune(p_keep interval DEFAULT interval '90 days', p_limit integer DEFAULT 1000)
RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = shop, pg_temp
AS $$
DECLARE
    v_keys integer;
    v_runs integer;
    v_letters integer;
    v_attempts integer;
    v_sizes integer;
BEGIN
    IF p_keep IS NULL OR p_keep < interval '1 day' THEN
        RAISE EXCEPTION 'keys are kept for at least a day: until then a client may send again' USING ERRCODE = 'OM011';
    END IF;
    -- A pending key is never old enough to lose, nor one that was decided late.
    WITH old AS (
        SELECT k.key FROM request_keys AS k
        WHERE k.received_at < now() - p_keep AND k.status <> 'pending' AND k.decided_at < now() - p_keep
            -- Decided by the other door while it waits in the queue: the drain must still find the answer.
            AND NOT EXISTS (SELECT FROM order_queue AS q WHERE q.key = k.key)
        ORDER BY k.received_at LIMIT p_limit FOR UPDATE SKIP LOCKED
    )
    DELETE FROM request_keys AS k USING old WHERE k.key = old.key;
    GET DIAGNOSTICS v_keys = ROW_COUNT;
    WITH old AS (
        SELECT r.job, r.slot FROM job_runs AS r
        WHERE coalesce(r.finished_at, r.leased_until) < now() - kept_for('job_runs')
            -- Each job's last success stays, so that one that no longer runs is known to be overdue.
            AND (r.state <> 'succeeded' OR EXISTS (
                SELECT FROM job_runs AS l
                WHERE l.job = r.job AND l.slot > r.slot AND l.slot <= now() AND l.state = 'succeeded'))
        ORDER BY r.job, r.slot LIMIT p_limit FOR UPDATE SKIP LOCKED
    )
    DELETE FROM job_runs AS r USING old WHERE r.job = old.job AND r.slot = old.slot;
    GET DIAGNOSTICS v_runs = ROW_COUNT;
    -- An open letter is never too old, nor is that of a key whose answer still points to it.
    WITH old AS (
        SELECT d.id FROM dead_letters AS d
        WHERE d.settled_at < now() - p_keep
            AND NOT EXISTS (SELECT FROM request_keys AS k WHERE k.key = d.key AND k.status = 'dead')
        ORDER BY d.settled_at LIMIT p_limit FOR UPDATE SKIP LOCKED
    )
    DELETE FROM dead_letters AS d USING old WHERE d.id = old.id;
    GET DIAGNOSTICS v_letters = ROW_COUNT;
    WITH old AS (
        SELECT message FROM message_attempts
        WHERE last_at < now() - kept_for('message_attempts') LIMIT p_limit FOR UPDATE SKIP LOCKED
    )
    DELETE FROM message_attempts AS m USING old WHERE m.message = old.message;
    GET DIAGNOSTICS v_attempts = ROW_COUNT;
    WITH old AS (
        SELECT table_name, day FROM table_sizes
        WHERE day < (now() - kept_for('table_sizes'))::date LIMIT p_limit FOR UPDATE SKIP LOCKED
    )
    DELETE FROM table_sizes AS t USING old WHERE t.table_name = old.table_name AND t.day = old.day;
    GET DIAGNOSTICS v_sizes = ROW_COUNT;
    RETURN v_keys + v_runs + v_letters + v_attempts + v_sizes;
END
$$;

COMMENT ON FUNCTION api.prune(interval, integer) IS
'Deletes decided request keys and settled dead letters older than this, and what retention_policies keeps no longer, but not the last success of a job: one bounded batch; gives how many rows, 0 when done.';
