-- One row an accepted call: written as the intent before the tool runs, completed as the outcome after.
-- Partitioned by month through the id: a UUIDv7 begins with its time (RFC 9562).
CREATE TABLE executor.execution (
    team_id          text        NOT NULL,
    id               uuid        NOT NULL,
    tool_name        text        NOT NULL,
    tool_version     text        NOT NULL,
    tool_digest      text        NOT NULL,
    effect           text        NOT NULL,
    sensitivity      text        NOT NULL,
    agent_id         text        NOT NULL,
    task_id          text        NOT NULL,
    request_id       text        NOT NULL,
    selection_id     text        NOT NULL,
    trace_id         text        NOT NULL,
    decision_id      uuid,
    arguments_json   text        NOT NULL,
    arguments_digest text        NOT NULL,
    status           text        NOT NULL,
    result_json      text        NOT NULL DEFAULT '',
    result_digest    text        NOT NULL DEFAULT '',
    error_json       text        NOT NULL DEFAULT '',
    cost_micro_usd   bigint      NOT NULL DEFAULT 0,
    create_time      timestamptz NOT NULL,
    end_time         timestamptz,
    -- The process that runs it, and the number of times it changed hands: a write with an old epoch is void.
    owner            uuid        NOT NULL,
    lease_epoch      integer     NOT NULL DEFAULT 1,
    PRIMARY KEY (team_id, id)
) PARTITION BY RANGE (id);

CREATE TABLE executor.execution_default PARTITION OF executor.execution DEFAULT;

CREATE INDEX execution_tool ON executor.execution (team_id, tool_name, id DESC);
CREATE INDEX execution_agent ON executor.execution (team_id, agent_id, id DESC);
CREATE INDEX execution_task ON executor.execution (team_id, task_id, id DESC) WHERE task_id <> '';
CREATE INDEX execution_running ON executor.execution (owner) WHERE status = 'running';

-- A caller's request id is used once in a team.
CREATE TABLE executor.request (
    team_id      text        NOT NULL,
    request_id   text        NOT NULL,
    execution_id uuid        NOT NULL,
    body_digest  text        NOT NULL,
    create_time  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (team_id, request_id)
);

-- The processes that run executions; one that is silent too long is taken for dead.
CREATE TABLE executor.worker (
    owner     uuid        PRIMARY KEY,
    last_seen timestamptz NOT NULL
);

-- Events that wait for their delivery; written in one transaction with what they tell of.
CREATE TABLE executor.outbox (
    id          bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    destination text        NOT NULL,
    payload     bytea       NOT NULL,
    create_time timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX outbox_destination ON executor.outbox (destination, id);

-- The smallest UUIDv7 of a time.
CREATE FUNCTION executor.uuid_floor(at timestamptz) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
    SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '00000000000000000000')::uuid
$$;

-- Makes the partitions of this month and of the months ahead; safe to call at any time. A month whose rows
-- stand in the default partition already cannot have one of its own: it is left out, with a warning.
CREATE FUNCTION executor.ensure_partitions(months_ahead integer) RETURNS void LANGUAGE plpgsql AS $$
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

SELECT executor.ensure_partitions(2);
