-- Who may do what. `team_id` leads every primary key and index of team data.
CREATE TABLE permissions.team (
    team_id     text        PRIMARY KEY,
    -- Last revision given out: one more with every change of the team's grants.
    revision    bigint      NOT NULL DEFAULT 0,
    create_time timestamptz NOT NULL
);

CREATE TABLE permissions.agent (
    team_id        text        NOT NULL REFERENCES permissions.team,
    agent_id       text        NOT NULL,
    specialization text        NOT NULL,
    role           text        NOT NULL CHECK (role IN ('agent', 'auditor', 'operator', 'admin')),
    disabled       boolean     NOT NULL DEFAULT false,
    create_time    timestamptz NOT NULL,
    PRIMARY KEY (team_id, agent_id)
);

-- `digest` is HMAC-SHA-256 of the whole key under the pepper, in hex; the key itself is nowhere.
CREATE TABLE permissions.api_key (
    team_id     text        NOT NULL,
    key_id      text        NOT NULL,
    agent_id    text        NOT NULL,
    digest      text        NOT NULL,
    created_by  text        NOT NULL,
    create_time timestamptz NOT NULL,
    expire_time timestamptz,
    revoke_time timestamptz,
    PRIMARY KEY (team_id, key_id),
    FOREIGN KEY (team_id, agent_id) REFERENCES permissions.agent
);

-- Which team a key belongs to: a key is presented before its team is known. Never holds more than this.
CREATE TABLE permissions.api_key_team (
    key_id  text PRIMARY KEY,
    team_id text NOT NULL
);

CREATE TABLE permissions.tool_grant (
    team_id         text        NOT NULL REFERENCES permissions.team,
    grant_id        uuid        NOT NULL,
    agent_id        text,
    specialization  text        CHECK (specialization <> ''),
    tool_name       text        NOT NULL,
    max_per_hour    bigint      NOT NULL CHECK (max_per_hour >= 0),
    read_only       boolean     NOT NULL,
    max_sensitivity text        CHECK (max_sensitivity IN ('public', 'internal', 'confidential', 'restricted')),
    expire_time     timestamptz,
    created_by      text        NOT NULL,
    create_time     timestamptz NOT NULL,
    revoke_time     timestamptz,
    -- Revision of its last change.
    revision        bigint      NOT NULL,
    PRIMARY KEY (team_id, grant_id),
    FOREIGN KEY (team_id, agent_id) REFERENCES permissions.agent,
    CHECK (num_nonnulls(agent_id, specialization) = 1)
);

CREATE INDEX tool_grant_agent ON permissions.tool_grant (team_id, agent_id, tool_name)
    WHERE agent_id IS NOT NULL AND revoke_time IS NULL;
CREATE INDEX tool_grant_specialization ON permissions.tool_grant (team_id, specialization, tool_name)
    WHERE specialization IS NOT NULL AND revoke_time IS NULL;

-- Calls of one agent under one grant in one clock hour (UTC). Updated in place, hence the free space.
CREATE TABLE permissions.counter (
    team_id      text        NOT NULL,
    grant_id     uuid        NOT NULL,
    agent_id     text        NOT NULL,
    window_start timestamptz NOT NULL,
    used         bigint      NOT NULL CHECK (used >= 0),
    PRIMARY KEY (team_id, grant_id, agent_id, window_start)
) WITH (fillfactor = 50);

-- One place taken in a counter. `reserved` ends as `committed`, `released` or `expired`, once.
-- A decision's id is a UUIDv7 and so begins with its time: old rows are found by it.
CREATE TABLE permissions.reservation (
    team_id          text        NOT NULL,
    decision_id      uuid        NOT NULL,
    execution_id     uuid        NOT NULL,
    state            text        NOT NULL CHECK (state IN ('reserved', 'committed', 'released', 'expired')),
    grant_id         uuid        NOT NULL,
    agent_id         text        NOT NULL,
    window_start     timestamptz NOT NULL,
    -- What the decision was made for, and what it said of the counter.
    tool_name        text        NOT NULL,
    tool_digest      text        NOT NULL,
    arguments_digest text        NOT NULL,
    used             bigint      NOT NULL,
    quota_limit      bigint      NOT NULL,
    expire_time      timestamptz NOT NULL,
    PRIMARY KEY (team_id, decision_id)
);

-- An execution holds one place at most; one that was given back may be taken anew.
CREATE UNIQUE INDEX reservation_execution ON permissions.reservation (team_id, execution_id)
    WHERE state IN ('reserved', 'committed');
CREATE INDEX reservation_unsettled ON permissions.reservation (team_id, expire_time) WHERE state = 'reserved';
