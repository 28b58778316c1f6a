-- Policies of teams. A version is never changed once written, except that it ends, once: when the next one takes its
-- place, or when the policy is taken out of force. What has no end is in force; of a name at most one version is.
CREATE TABLE permissions.policy (
    team_id     text        NOT NULL REFERENCES permissions.team,
    name        text        NOT NULL,
    version     bigint      NOT NULL CHECK (version > 0),
    -- One Cedar policy, as it was written.
    policy_text text        NOT NULL,
    created_by  text        NOT NULL,
    create_time timestamptz NOT NULL,
    remove_time timestamptz,
    -- Revision of its last change, as grants have it.
    revision    bigint      NOT NULL,
    PRIMARY KEY (team_id, name, version)
);

CREATE UNIQUE INDEX policy_in_force ON permissions.policy (team_id, name) WHERE remove_time IS NULL;
CREATE INDEX policy_revision ON permissions.policy (team_id, revision);
