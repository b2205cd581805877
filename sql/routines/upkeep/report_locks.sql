CREATE OR REPLACE FUNCTION shop.report_locks() RETURNS TABLE (object text, severity text, detail jsonb)
LANGUAGE sql STABLE
SET search_path = shop, pg_temp
AS $$
    WITH sessions AS (
        SELECT a.*, pg_blocking_pids(a.pid) AS blockers,
            round(extract(epoch FROM clock_timestamp() - a.xact_start)) AS in_transaction_s,
            round(extract(epoch FROM clock_timestamp() - a.state_change)) AS in_state_s
        FROM pg_stat_activity AS a
        WHERE a.datname = current_database() AND a.pid <> pg_backend_pid() AND a.backend_type = 'client backend'
    )
    SELECT format('session %s waits for a lock', s.pid),
        CASE WHEN s.in_state_s >= 10 THEN 'warning' ELSE 'note' END, jsonb_build_object(
            'behind', s.blockers, 'waits_s', s.in_state_s, 'who', s.usename, 'what', s.application_name,
            'query', left(s.query, 300))
    FROM sessions AS s WHERE cardinality(s.blockers) > 0
    UNION ALL
    SELECT format('session %s is long in a transaction', s.pid), 'warning', jsonb_build_object(
        'since_s', s.in_transaction_s, 'state', s.state, 'who', s.usename, 'what', s.application_name,
        'query', left(s.query, 300))
    FROM sessions AS s
    WHERE s.in_transaction_s >= 900 OR (s.state LIKE 'idle in transaction%' AND s.in_state_s >= 60)
    UNION ALL
    SELECT 'prepared transaction ' || p.gid, 'warning', jsonb_build_object(
        'since_s', round(extract(epoch FROM now() - p.prepared)), 'who', p.owner)
    FROM pg_prepared_xacts AS p WHERE p.database = current_database() AND p.prepared < now() - interval '5 minutes'
    UNION ALL
    SELECT 'replication slot ' || r.slot_name, 'warning', jsonb_build_object(
        'active', r.active, 'bytes_kept', pg_wal_lsn_diff(l.now, r.restart_lsn), 'wal_status', r.wal_status)
    FROM pg_replication_slots AS r,
        (SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END AS now) AS l
    WHERE pg_wal_lsn_diff(l.now, r.restart_lsn) > 1000000000
    UNION ALL
    SELECT 'sessions of others cannot be seen', 'note', jsonb_build_object(
        'to_do', 'as a superuser, GRANT pg_read_all_stats TO ordermill_owner')
    WHERE NOT pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')
$$;

COMMENT ON FUNCTION shop.report_locks() IS
'Who waits for whom now, and what keeps locks, old rows or WAL for long: transactions (15 min, idle 1 min), prepared transactions, replication slots.';
