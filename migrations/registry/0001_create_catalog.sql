-- The catalog. Its one row is updated by every transaction that writes tools, which puts the writers in
-- one order: whoever has seen revision N has seen every change up to N.
CREATE TABLE registry.revision (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    value    bigint  NOT NULL
);

INSERT INTO registry.revision (value) VALUES (0);

-- Every version of every tool; rows are only ever added.
CREATE TABLE registry.version (
    team_id        text        NOT NULL,
    id             uuid        NOT NULL,
    name           text        NOT NULL,
    version        text        NOT NULL,
    -- The revision that added it: later versions have greater ones.
    revision       bigint      NOT NULL,
    -- SHA-256 over what may steer a model; published.
    digest         text        NOT NULL,
    -- SHA-256 over the whole definition but its version: tells whether anything at all differs.
    content_digest text        NOT NULL,
    -- The definition as JSON text: jsonb would change numbers.
    definition     text        NOT NULL,
    create_time    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (team_id, id),
    CONSTRAINT version_of_name UNIQUE (team_id, name, version)
);

-- One row a tool: its newest version, what listings filter by, and whether it may be called.
CREATE TABLE registry.tool (
    team_id      text    NOT NULL,
    name         text    NOT NULL,
    newest_id    uuid    NOT NULL,
    category     text    NOT NULL,
    capabilities text[]  NOT NULL,
    provider     text    NOT NULL,
    -- The MCP server whose discovery keeps it; null when people do.
    server_name  text,
    -- What people decided.
    status       text    NOT NULL,
    -- Its server no longer offers it: disabled whatever the status says, until it is offered again.
    withdrawn    boolean NOT NULL DEFAULT false,
    -- The revision that last changed it.
    revision     bigint  NOT NULL,
    PRIMARY KEY (team_id, name),
    FOREIGN KEY (team_id, newest_id) REFERENCES registry.version (team_id, id)
);

CREATE INDEX tool_revision ON registry.tool (revision, team_id, name);
CREATE INDEX tool_team_revision ON registry.tool (team_id, revision, name);
CREATE INDEX tool_server ON registry.tool (team_id, server_name) WHERE server_name IS NOT NULL;

-- The MCP servers and what their last discovery said.
CREATE TABLE registry.server (
    team_id          text        NOT NULL,
    name             text        NOT NULL,
    -- A server that is removed and registered again has another id.
    id               uuid        NOT NULL UNIQUE,
    transport        jsonb       NOT NULL,
    defaults         jsonb       NOT NULL,
    state            text        NOT NULL DEFAULT 'pending',
    last_error       text        NOT NULL DEFAULT '',
    last_seen_time   timestamptz,
    discovery_ms     bigint      NOT NULL DEFAULT 0,
    server_version   text        NOT NULL DEFAULT '',
    protocol_version text        NOT NULL DEFAULT '',
    rejected_tools   text[]      NOT NULL DEFAULT '{}',
    -- Discoveries asked for, and the last of them that was answered.
    refresh_wanted   bigint      NOT NULL DEFAULT 1,
    refresh_done     bigint      NOT NULL DEFAULT 0,
    -- Discoveries in a row that failed, and when the next one is due.
    failures         integer     NOT NULL DEFAULT 0,
    next_time        timestamptz NOT NULL DEFAULT now(),
    -- The process that discovers it, and until when without renewing.
    lease_owner      uuid,
    lease_until      timestamptz,
    create_time      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (team_id, name)
);
