-- Trust: a definition that nobody has approved does not serve.
ALTER TABLE registry.tool
    -- A changed definition that waits for approval, while newest_id goes on serving.
    ADD COLUMN pending_id uuid,
    -- Whether newest_id may serve; false for a new tool that waits for its first approval.
    ADD COLUMN approved boolean NOT NULL DEFAULT true,
    -- What listings search: name (A), title (B), description (C), capabilities and parameters (D).
    ADD COLUMN search tsvector NOT NULL DEFAULT '',
    ADD FOREIGN KEY (team_id, pending_id) REFERENCES registry.version (team_id, id);

-- Whether it may be called, whoever decided it.
ALTER TABLE registry.tool
    ADD COLUMN effective_status text NOT NULL GENERATED ALWAYS AS (
        CASE WHEN withdrawn THEN 'disabled' WHEN NOT approved THEN 'quarantined' ELSE status END) STORED;

CREATE INDEX tool_pending ON registry.tool (team_id, name) WHERE pending_id IS NOT NULL OR NOT approved;

-- What became of the definitions that needed approval. A version without a row needed none.
CREATE TABLE registry.review (
    team_id     text        NOT NULL,
    version_id  uuid        NOT NULL,
    -- pending, approved, rejected, or superseded by a later change.
    state       text        NOT NULL,
    -- The agent that decided; empty until then.
    reviewer    text        NOT NULL DEFAULT '',
    note        text        NOT NULL DEFAULT '',
    create_time timestamptz NOT NULL DEFAULT now(),
    review_time timestamptz,
    PRIMARY KEY (team_id, version_id),
    FOREIGN KEY (team_id, version_id) REFERENCES registry.version (team_id, id)
);

ALTER TABLE registry.server
    -- Credentials that it is reached with.
    ADD COLUMN credentials jsonb NOT NULL DEFAULT '[]',
    -- The last 20 probes and discoveries, oldest first: milliseconds until the answer, or -1 without one.
    ADD COLUMN answers integer[] NOT NULL DEFAULT '{}',
    ADD COLUMN last_probe_time timestamptz,
    ADD COLUMN next_probe_time timestamptz NOT NULL DEFAULT now();
