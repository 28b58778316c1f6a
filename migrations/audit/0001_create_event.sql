-- The trail. Partitioned by month through the event id: a UUIDv7 begins with its time (RFC 9562),
-- so that (team_id, id) can be unique over all partitions and old months can be dropped whole.
CREATE TABLE audit.event (
    team_id          text        NOT NULL,
    id               uuid        NOT NULL,
    sequence         bigint      NOT NULL,
    event_time       timestamptz NOT NULL,
    action           text        NOT NULL,
    result           text        NOT NULL,
    agent_id         text        NOT NULL,
    tool_name        text        NOT NULL,
    tool_version     text        NOT NULL,
    tool_digest      text        NOT NULL,
    execution_id     uuid,
    task_id          text        NOT NULL,
    trace_id         text        NOT NULL,
    reason           text        NOT NULL,
    message          text        NOT NULL,
    arguments_json   text        NOT NULL,
    arguments_digest text        NOT NULL,
    result_digest    text        NOT NULL,
    duration_ms      double precision NOT NULL,
    cost_micro_usd   bigint      NOT NULL,
    sensitivity      text        NOT NULL,
    decision_id      uuid,
    create_time      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (team_id, id)
) PARTITION BY RANGE (id);

CREATE TABLE audit.event_default PARTITION OF audit.event DEFAULT;

CREATE INDEX event_sequence ON audit.event (team_id, sequence DESC);
CREATE INDEX event_agent ON audit.event (team_id, agent_id, sequence DESC);
CREATE INDEX event_tool ON audit.event (team_id, tool_name, sequence DESC);
CREATE INDEX event_task ON audit.event (team_id, task_id, sequence DESC) WHERE task_id <> '';
CREATE INDEX event_execution ON audit.event (team_id, execution_id) WHERE execution_id IS NOT NULL;
CREATE INDEX event_time ON audit.event (team_id, event_time);

-- The last position given out in each team's trail; its row lock makes positions contiguous.
CREATE TABLE audit.head (
    team_id  text   PRIMARY KEY,
    sequence bigint NOT NULL DEFAULT 0
);

-- The smallest UUIDv7 of a time.
CREATE FUNCTION audit.uuid_floor(at timestamptz) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
    SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '00000000000000000000')::uuid
$$;

-- Makes the partitions of this month and of the months ahead; safe to call at any time. A month whose rows
-- stand in the default partition already cannot have one of its own: it is left out, with a warning.
CREATE FUNCTION audit.ensure_partitions(months_ahead integer) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    month timestamptz;
    name  text;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('audit.ensure_partitions'));
    FOR ahead IN 0..months_ahead LOOP
        month := (date_trunc('month', now() AT TIME ZONE 'UTC') + make_interval(months => ahead)) AT TIME ZONE 'UTC';
        name := 'event_' || to_char(month AT TIME ZONE 'UTC', 'YYYY_MM');
        IF to_regclass('audit.' || name) IS NULL THEN
            BEGIN
                EXECUTE format(
                    'CREATE TABLE audit.%I PARTITION OF audit.event FOR VALUES FROM (%L) TO (%L)',
                    name, audit.uuid_floor(month),
                    audit.uuid_floor(((month AT TIME ZONE 'UTC') + interval '1 month') AT TIME ZONE 'UTC'));
            EXCEPTION WHEN check_violation THEN
                RAISE WARNING 'events of % stay in the default partition', to_char(month AT TIME ZONE 'UTC', 'YYYY-MM');
            END;
        END IF;
    END LOOP;
END
$$;

SELECT audit.ensure_partitions(2);
