-- Every outcome once. Its key drops what the outbox delivers twice; kept for a bounded time.
CREATE TABLE selector.outcome (
    team_id        text             NOT NULL,
    event_id       uuid             NOT NULL,
    agent_id       text             NOT NULL,
    tool_name      text             NOT NULL,
    execution_id   uuid,
    selection_id   uuid,
    succeeded      boolean          NOT NULL,
    duration_ms    double precision NOT NULL,
    cost_micro_usd bigint           NOT NULL,
    event_time     timestamptz      NOT NULL,
    create_time    timestamptz      NOT NULL DEFAULT now(),
    PRIMARY KEY (team_id, event_id)
);

CREATE INDEX outcome_create_time ON selector.outcome (create_time);

-- What an agent's calls of a tool came to. `executions` and `successes` count all; the others fade with
-- a half-life of seven days and hold as of `decay_time`.
CREATE TABLE selector.history (
    team_id        text             NOT NULL,
    tool_name      text             NOT NULL,
    agent_id       text             NOT NULL,
    executions     bigint           NOT NULL,
    successes      bigint           NOT NULL,
    weight         double precision NOT NULL,
    success_weight double precision NOT NULL,
    duration_ms    double precision NOT NULL,
    cost_micro_usd double precision NOT NULL,
    decay_time     timestamptz      NOT NULL,
    -- The transaction that wrote the row last: a reader asks for what was written since the oldest
    -- transaction that ran at its last reading, and so misses none, however late one commits.
    changed_in     bigint           NOT NULL,
    PRIMARY KEY (team_id, tool_name, agent_id)
);

CREATE INDEX history_changed_in ON selector.history (changed_in);

-- The factor by which a weight has faded since a time. The exponent is capped: power() fails on underflow.
CREATE FUNCTION selector.decay(since timestamptz) RETURNS double precision LANGUAGE sql STABLE AS $$
    SELECT power(0.5::double precision,
                 least(200, greatest(0, extract(epoch FROM now() - since) / 604800))::double precision)
$$;

-- What was answered to which question. The task itself is not kept: only its digest and length.
CREATE TABLE selector.selection (
    team_id         text        NOT NULL,
    id              uuid        NOT NULL,
    agent_id        text        NOT NULL,
    task_id         text        NOT NULL,
    task_digest     text        NOT NULL,
    task_length     integer     NOT NULL,
    candidate_count integer     NOT NULL,
    -- Ranked tools, best first: {name, match, suitability, combined, capability, text}.
    ranked          jsonb       NOT NULL,
    create_time     timestamptz NOT NULL,
    PRIMARY KEY (team_id, id)
);

CREATE INDEX selection_create_time ON selector.selection (create_time);
