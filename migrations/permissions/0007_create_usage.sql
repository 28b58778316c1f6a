-- What allowed calls were made under: the report on unused grants and on the least that would have done is read from
-- here. Counted in the memory of each process and added every few seconds, so a process that is killed loses the
-- last of them; never asked by a decision.

-- `basis` is what allowed the calls: the id of a grant or of an access request, or the name of a team's policy.
-- Rows are deleted some days after the longest report. Updated in place, hence the free space.
CREATE TABLE permissions.tool_use (
    team_id     text        NOT NULL,
    -- Clock hour (UTC).
    hour        timestamptz NOT NULL,
    agent_id    text        NOT NULL,
    tool_name   text        NOT NULL,
    basis_kind  text        NOT NULL CHECK (basis_kind IN ('grant', 'approval', 'policy')),
    basis       text        NOT NULL,
    effect      text        NOT NULL CHECK (effect IN ('read_only', 'idempotent', 'side_effect')),
    -- 0 public, 1 internal, 2 confidential, 3 restricted.
    sensitivity smallint    NOT NULL CHECK (sensitivity BETWEEN 0 AND 3),
    calls       bigint      NOT NULL CHECK (calls > 0),
    PRIMARY KEY (team_id, hour, agent_id, tool_name, basis_kind, basis, effect, sensitivity)
) WITH (fillfactor = 70);

-- Since when calls are counted; one row.
CREATE TABLE permissions.tool_use_since (
    is_only boolean     PRIMARY KEY DEFAULT true CHECK (is_only),
    began   timestamptz NOT NULL
);

INSERT INTO permissions.tool_use_since (began) VALUES (now());
