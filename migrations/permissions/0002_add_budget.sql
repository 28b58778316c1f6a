-- Cost budgets, and revisions by which a process knows what changed since it last read.

-- What a team may spend on a day (UTC), in millionths of a US dollar; 0, or no row: no budget.
CREATE TABLE permissions.budget (
    team_id         text   PRIMARY KEY REFERENCES permissions.team,
    daily_micro_usd bigint NOT NULL CHECK (daily_micro_usd >= 0)
);

-- What a team spent on a day, and what its calls under way may still spend. Counts while there is a
-- budget. Updated in place, hence the free space.
CREATE TABLE permissions.spend (
    team_id            text   NOT NULL,
    day                date   NOT NULL,
    reserved_micro_usd bigint NOT NULL DEFAULT 0 CHECK (reserved_micro_usd >= 0),
    spent_micro_usd    bigint NOT NULL DEFAULT 0 CHECK (spent_micro_usd >= 0),
    PRIMARY KEY (team_id, day)
) WITH (fillfactor = 50);

-- A reservation takes a place in a counter (`quota_limit` above 0), a part of a budget (`day` set), or
-- both. `cost_micro_usd` is what it reserved; `budget_limit` and `budget_used` are what the decision said.
ALTER TABLE permissions.reservation
    ADD COLUMN day            date,
    ADD COLUMN cost_micro_usd bigint NOT NULL DEFAULT 0,
    ADD COLUMN budget_limit   bigint NOT NULL DEFAULT 0,
    ADD COLUMN budget_used    bigint NOT NULL DEFAULT 0;

-- Revision of the agent's last change, as grants have it.
ALTER TABLE permissions.agent ADD COLUMN revision bigint NOT NULL DEFAULT 0;

CREATE INDEX tool_grant_revision ON permissions.tool_grant (team_id, revision);
