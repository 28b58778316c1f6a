-- A month whose rows stand in the default partition already cannot have one of its own: it is left out, with
-- a warning, and the months behind it are made all the same.
CREATE OR REPLACE FUNCTION executor.ensure_partitions(months_ahead integer) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    month timestamptz;
    name  text;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('executor.ensure_partitions'));
    FOR ahead IN 0..months_ahead LOOP
        month := (date_trunc('month', now() AT TIME ZONE 'UTC') + make_interval(months => ahead)) AT TIME ZONE 'UTC';
        name := 'execution_' || to_char(month AT TIME ZONE 'UTC', 'YYYY_MM');
        IF to_regclass('executor.' || name) IS NULL THEN
            BEGIN
                EXECUTE format(
                    'CREATE TABLE executor.%I PARTITION OF executor.execution FOR VALUES FROM (%L) TO (%L)',
                    name, executor.uuid_floor(month),
                    executor.uuid_floor(((month AT TIME ZONE 'UTC') + interval '1 month') AT TIME ZONE 'UTC'));
            EXCEPTION WHEN check_violation THEN
                RAISE WARNING 'executions of % stay in the default partition', to_char(month AT TIME ZONE 'UTC', 'YYYY-MM');
            END;
        END IF;
    END LOOP;
END
$$;
