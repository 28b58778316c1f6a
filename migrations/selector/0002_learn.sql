-- What an agent's calls of a tool came to, for tasks of one category. `executions`, `successes` and `feedbacks` count
-- all; the others fade with a half-life of seven days and with every further outcome of the row, and hold as of
-- `decay_time`. Takes the place of selector.history.
CREATE TABLE selector.record (
    team_id         text             NOT NULL,
    tool_name       text             NOT NULL,
    agent_id        text             NOT NULL,
    category        text             NOT NULL,
    executions      bigint           NOT NULL,
    successes       bigint           NOT NULL,
    weight          double precision NOT NULL,
    success_weight  double precision NOT NULL,
    duration_ms     double precision NOT NULL,
    cost_micro_usd  double precision NOT NULL,
    feedbacks       bigint           NOT NULL DEFAULT 0,
    -- Feedback, faded by time alone: how much, and its quality summed.
    quality_weight  double precision NOT NULL DEFAULT 0,
    quality         double precision NOT NULL DEFAULT 0,
    -- How far the outcomes have run off what was expected, downwards and upwards (Page-Hinkley sums).
    fall            double precision NOT NULL DEFAULT 0,
    rise            double precision NOT NULL DEFAULT 0,
    decay_time      timestamptz      NOT NULL,
    -- As in selector.history; within a team, a later transaction has a higher number, since each waits for the one
    -- before it.
    changed_in      bigint           NOT NULL,
    PRIMARY KEY (team_id, tool_name, agent_id, category)
);

CREATE INDEX record_changed_in ON selector.record (changed_in);

INSERT INTO selector.record (
    team_id, tool_name, agent_id, category, executions, successes, weight, success_weight, duration_ms,
    cost_micro_usd, decay_time, changed_in)
SELECT team_id, tool_name, agent_id, 'custom', executions, successes, weight * share, success_weight * share,
    duration_ms * share, cost_micro_usd * share, decay_time, changed_in
FROM selector.history
-- No more than a record can come to by itself.
CROSS JOIN LATERAL (SELECT least(1, 20 / greatest(weight, 1)) AS share) AS most;

-- Outcomes by tool and hour: what trends, hours, percentiles, failure clusters and suggestions are computed from.
-- Kept for 30 days.
CREATE TABLE selector.hour (
    team_id        text             NOT NULL,
    tool_name      text             NOT NULL,
    agent_id       text             NOT NULL,
    hour           timestamptz      NOT NULL,
    -- Empty: succeeded.
    failure_reason text             NOT NULL,
    calls          bigint           NOT NULL,
    cached         bigint           NOT NULL,
    fell_back      bigint           NOT NULL,
    -- Sums over calls that were not cached: ln(1 + ms), and its square.
    log_ms         double precision NOT NULL,
    log_ms_square  double precision NOT NULL,
    cost_micro_usd double precision NOT NULL,
    -- Calls by duration: bucket i holds those below 2^(i/2) ms.
    durations      bigint[]         NOT NULL,
    -- First and last of them.
    first_time     timestamptz      NOT NULL,
    last_time      timestamptz      NOT NULL,
    PRIMARY KEY (team_id, tool_name, agent_id, hour, failure_reason)
);

CREATE INDEX hour_hour ON selector.hour (hour);

-- Equal calls within a day: what a cache would have spared.
CREATE TABLE selector.repeat (
    team_id        text             NOT NULL,
    tool_name      text             NOT NULL,
    day            date             NOT NULL,
    arguments_hash text             NOT NULL,
    calls          bigint           NOT NULL,
    cached         bigint           NOT NULL,
    duration_ms    double precision NOT NULL,
    PRIMARY KEY (team_id, tool_name, day, arguments_hash)
);

CREATE INDEX repeat_day ON selector.repeat (day);

-- What is known of a tool's settings from its last outcome, and what its outcomes are watched by. Kept for 30 days
-- after its last outcome.
CREATE TABLE selector.tool (
    team_id    text        NOT NULL,
    tool_name  text        NOT NULL,
    timeout_ms bigint      NOT NULL,
    effect     text        NOT NULL,
    last_time  timestamptz NOT NULL,
    -- {outcomes, usual_weight, usual_success, fall, fall_time, alarm_time, recent, since, since_successes}
    watch      jsonb       NOT NULL,
    PRIMARY KEY (team_id, tool_name)
);

CREATE INDEX tool_last_time ON selector.tool (last_time);

-- The last tools of a task, to see what follows what; kept for a day.
CREATE TABLE selector.trace (
    team_id   text        NOT NULL,
    agent_id  text        NOT NULL,
    task_id   text        NOT NULL,
    tool_name text        NOT NULL,
    last_time timestamptz NOT NULL,
    PRIMARY KEY (team_id, agent_id, task_id)
);

CREATE INDEX trace_last_time ON selector.trace (last_time);

-- One tool after another within one task, by agent; faded with a half-life of seven days, but for `count`.
CREATE TABLE selector.transition (
    team_id    text             NOT NULL,
    from_tool  text             NOT NULL,
    to_tool    text             NOT NULL,
    agent_id   text             NOT NULL,
    count      bigint           NOT NULL,
    weight     double precision NOT NULL,
    decay_time timestamptz      NOT NULL,
    changed_in bigint           NOT NULL,
    PRIMARY KEY (team_id, from_tool, to_tool, agent_id)
);

CREATE INDEX transition_changed_in ON selector.transition (changed_in);

-- Tools that turned worse; at most one alarm a tool is on at a time. Kept for 30 days after their end; one that is on
-- for 30 days ends: it is what is usual by now.
CREATE TABLE selector.alarm (
    team_id        text             NOT NULL,
    tool_name      text             NOT NULL,
    start_time     timestamptz      NOT NULL,
    end_time       timestamptz,
    rate_before    double precision NOT NULL,
    rate_since     double precision NOT NULL,
    failure_reason text             NOT NULL,
    changed_in     bigint           NOT NULL,
    PRIMARY KEY (team_id, tool_name, start_time)
);

CREATE INDEX alarm_changed_in ON selector.alarm (changed_in);

-- The mean task that a tool succeeded with, by agent: sums of unit vectors of one model.
CREATE TABLE selector.centroid (
    team_id    text             NOT NULL,
    tool_name  text             NOT NULL,
    agent_id   text             NOT NULL,
    model_id   text             NOT NULL,
    successes  bigint           NOT NULL,
    -- f32, little-endian: the last successes' vectors count most, by the same decay as the record's.
    sum        bytea            NOT NULL,
    weight     double precision NOT NULL,
    decay_time timestamptz      NOT NULL,
    changed_in bigint           NOT NULL,
    PRIMARY KEY (team_id, tool_name, agent_id, model_id)
);

CREATE INDEX centroid_changed_in ON selector.centroid (changed_in);

-- Vectors of tools, so that a restart computes none: by what was embedded, whoever's it is.
CREATE TABLE selector.vector (
    -- Of the tool's team: no team learns from another's cache what tools it has.
    team_id     text        NOT NULL,
    model_id    text        NOT NULL,
    -- SHA-256, in hex, of the text.
    text_digest text        NOT NULL,
    vector      bytea       NOT NULL,
    use_time    timestamptz NOT NULL,
    PRIMARY KEY (team_id, model_id, text_digest)
);

CREATE INDEX vector_use_time ON selector.vector (use_time);

ALTER TABLE selector.selection
    -- The end user for whom the agent asked; empty: none.
    ADD COLUMN user_id        text             NOT NULL DEFAULT '',
    ADD COLUMN task_category  text             NOT NULL DEFAULT '',
    ADD COLUMN confidence     double precision NOT NULL DEFAULT 0,
    ADD COLUMN mode           text             NOT NULL DEFAULT 'lexical',
    ADD COLUMN policy_version integer          NOT NULL DEFAULT 0,
    ADD COLUMN explored       boolean          NOT NULL DEFAULT false,
    -- The chance that the first tool came first, where it explored; 1 otherwise.
    ADD COLUMN propensity     double precision NOT NULL DEFAULT 1,
    ADD COLUMN model_id       text             NOT NULL DEFAULT '',
    ADD COLUMN task_vector    bytea,
    -- The first execution that followed.
    ADD COLUMN followed_tool  text,
    ADD COLUMN execution_id   uuid,
    ADD COLUMN succeeded      boolean,
    ADD COLUMN follow_time    timestamptz;

CREATE INDEX selection_create ON selector.selection (team_id, create_time DESC, id DESC);

-- What is to be erased of a user.
CREATE INDEX selection_user ON selector.selection (team_id, user_id) WHERE user_id <> '';

-- Kept as long as its selection; what it said of the tool's quality stays in the record.
CREATE TABLE selector.feedback (
    team_id      text             NOT NULL,
    id           uuid             NOT NULL,
    selection_id uuid             NOT NULL,
    tool_name    text             NOT NULL,
    agent_id     text             NOT NULL,
    by_person    boolean          NOT NULL,
    request_id   text             NOT NULL,
    quality      double precision,
    followed     boolean,
    -- Redacted.
    comment      text             NOT NULL,
    -- The end user for whom it was given; empty: none.
    user_id      text             NOT NULL DEFAULT '',
    create_time  timestamptz      NOT NULL,
    update_time  timestamptz      NOT NULL,
    PRIMARY KEY (team_id, id),
    UNIQUE (team_id, selection_id, tool_name, agent_id, by_person)
);

CREATE INDEX feedback_create_time ON selector.feedback (create_time);

CREATE INDEX feedback_user ON selector.feedback (team_id, user_id) WHERE user_id <> '';

CREATE UNIQUE INDEX feedback_request ON selector.feedback (team_id, agent_id, request_id) WHERE request_id <> '';

-- Erasures of end users and what came of them, counted with what they count. No name stands here. Kept for 90 days.
CREATE TABLE selector.erasure (
    team_id     text        NOT NULL,
    erasure_id  uuid        NOT NULL,
    selections  bigint      NOT NULL DEFAULT 0,
    feedback    bigint      NOT NULL DEFAULT 0,
    create_time timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (team_id, erasure_id)
);

CREATE TABLE selector.pin (
    team_id         text        NOT NULL,
    id              uuid        NOT NULL,
    tool_name       text        NOT NULL,
    -- Empty: all.
    agent_id        text        NOT NULL,
    category        text        NOT NULL,
    note            text        NOT NULL,
    create_agent_id text        NOT NULL,
    create_time     timestamptz NOT NULL,
    PRIMARY KEY (team_id, id),
    UNIQUE (team_id, tool_name, agent_id, category)
);

CREATE TABLE selector.policy (
    team_id         text        NOT NULL,
    version         integer     NOT NULL,
    state           text        NOT NULL,
    weights         jsonb       NOT NULL,
    evaluation      jsonb       NOT NULL,
    create_agent_id text        NOT NULL,
    create_time     timestamptz NOT NULL,
    activate_time   timestamptz,
    PRIMARY KEY (team_id, version)
);

-- Changes of pins and policies, for the copies in memory: read like history.
CREATE TABLE selector.team (
    team_id    text   NOT NULL PRIMARY KEY,
    changed_in bigint NOT NULL
);
