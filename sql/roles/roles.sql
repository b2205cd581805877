-- Roles belong to the cluster, so a twin migrating another database may make them at the same moment.
DO $$
DECLARE
    v_role text;
BEGIN
    FOREACH v_role IN ARRAY
        '{ordermill_owner,ordermill_worker,ordermill_app,ordermill_reader,ordermill_maintainer}'::text[]
    LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = v_role) THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN', v_role);
            EXCEPTION WHEN duplicate_object OR unique_violation THEN
                NULL; -- the twin was first
            END;
        END IF;
        -- From 16 on, who makes a role may give it out, but is not yet in it.
        IF NOT pg_has_role(current_user, v_role, 'USAGE') THEN
            BEGIN
                EXECUTE format('GRANT %I TO CURRENT_USER', v_role);
            EXCEPTION WHEN unique_violation OR internal_error THEN
                NULL; -- likewise ("tuple concurrently updated" is an internal error)
            END;
        END IF;
    END LOOP;
    -- TEMPORARY: REFRESH … CONCURRENTLY compares by a temporary table, and some take that right from PUBLIC.
    EXECUTE format('GRANT CONNECT, CREATE, TEMPORARY ON DATABASE %I TO ordermill_owner', current_database());
    -- What the reports read of other sessions and statements. Where this login may not give it, they say what is missing.
    BEGIN
        GRANT pg_read_all_stats TO ordermill_owner;
    EXCEPTION WHEN insufficient_privilege OR unique_violation OR internal_error THEN
        NULL;
    END;
    IF NOT EXISTS (SELECT FROM pg_extension WHERE extname = 'pg_stat_statements') THEN
        BEGIN
            IF current_setting('shared_preload_libraries') LIKE '%pg_stat_statements%' THEN
                CREATE EXTENSION IF NOT EXISTS pg_stat_statements;
            END IF;
        EXCEPTION WHEN insufficient_privilege OR undefined_file OR feature_not_supported OR unique_violation OR duplicate_object THEN
            NULL;
        END;
    END IF;
END
$$;
