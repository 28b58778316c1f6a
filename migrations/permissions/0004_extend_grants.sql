-- Grants of every kind: limits for a day and in all, hours, conditions on arguments, approvals.
ALTER TABLE permissions.tool_grant
    ADD COLUMN max_per_day   bigint NOT NULL DEFAULT 0 CHECK (max_per_day >= 0),
    ADD COLUMN max_total     bigint NOT NULL DEFAULT 0 CHECK (max_total >= 0),
    -- None: always. See hours.rs.
    ADD COLUMN hours         jsonb,
    -- A list. See condition.rs.
    ADD COLUMN conditions    jsonb  NOT NULL DEFAULT '[]',
    -- None: no approval is needed.
    ADD COLUMN approver_role text   CHECK (approver_role IN ('auditor', 'operator', 'admin')),
    ADD COLUMN note          text   NOT NULL DEFAULT '';

-- Calls of one agent that count over more than an hour: under a grant on a day (UTC) or in all, or with an approval
-- for one call. `counter_id` is the grant's or the approval's; `window_start` is the day's, and 1970 for what has no
-- end. Updated in place, hence the free space.
CREATE TABLE permissions.tally (
    team_id      text        NOT NULL,
    counter_id   uuid        NOT NULL,
    agent_id     text        NOT NULL,
    window_start timestamptz NOT NULL,
    used         bigint      NOT NULL CHECK (used >= 0),
    PRIMARY KEY (team_id, counter_id, agent_id, window_start)
) WITH (fillfactor = 50);

-- A reservation may take a place in each counter of its grant, and the only one of an approval: limits that are 0
-- and an approval that is not set have none. `day_used` and `total_used` are what the decision said.
ALTER TABLE permissions.reservation
    ADD COLUMN day_limit   bigint NOT NULL DEFAULT 0,
    ADD COLUMN day_used    bigint NOT NULL DEFAULT 0,
    ADD COLUMN total_limit bigint NOT NULL DEFAULT 0,
    ADD COLUMN total_used  bigint NOT NULL DEFAULT 0,
    ADD COLUMN approval_id uuid;
