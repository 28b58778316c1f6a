-- Who asked for a call that no grant lets it make, and what became of it. Bound to the agent, the definition of the
-- tool, and the arguments.
CREATE TABLE permissions.access_request (
    team_id          text        NOT NULL REFERENCES permissions.team,
    request_id       uuid        NOT NULL,
    agent_id         text        NOT NULL,
    -- The end user that the agent acts for; empty: none.
    end_user         text        NOT NULL,
    tool_name        text        NOT NULL,
    tool_digest      text        NOT NULL,
    arguments_digest text        NOT NULL,
    -- Sanitised.
    arguments_json   text        NOT NULL,
    justification    text        NOT NULL,
    approver_role    text        NOT NULL CHECK (approver_role IN ('agent', 'auditor', 'operator', 'admin')),
    -- Whether no grant allows the call: an approval then allows it by itself.
    is_grant         boolean     NOT NULL,
    execution_id     uuid,
    -- `pending` ends as `approved`, `denied` or `expired`, once; `approved` as `used` or `expired`.
    state            text        NOT NULL CHECK (state IN ('pending', 'approved', 'denied', 'expired', 'used')),
    create_time      timestamptz NOT NULL,
    expire_time      timestamptz NOT NULL,
    decided_by       text,
    decided_role     text        CHECK (decided_role IN ('agent', 'auditor', 'operator', 'admin')),
    decide_time      timestamptz,
    decision_reason  text        NOT NULL DEFAULT '',
    scope            text        CHECK (scope IN ('once', 'arguments', 'tool')),
    conditions       jsonb       NOT NULL DEFAULT '[]',
    -- Revision of the last change that decisions rest on; 0: there was none.
    revision         bigint      NOT NULL DEFAULT 0,
    PRIMARY KEY (team_id, request_id),
    FOREIGN KEY (team_id, agent_id) REFERENCES permissions.agent,
    CHECK ((state IN ('approved', 'denied', 'used')) <= (num_nulls(decided_by, decided_role, decide_time) = 0)),
    CHECK ((state IN ('approved', 'used')) <= (scope IS NOT NULL))
);

-- The same open request is one request. An end user may have a longer name than an index takes.
CREATE UNIQUE INDEX access_request_open ON permissions.access_request
    (team_id, agent_id, tool_name, tool_digest, arguments_digest, md5(end_user)) WHERE state = 'pending';
CREATE INDEX access_request_ending ON permissions.access_request (expire_time) WHERE state IN ('pending', 'approved');
CREATE INDEX access_request_agent ON permissions.access_request (team_id, agent_id, request_id DESC);
CREATE INDEX access_request_state ON permissions.access_request (team_id, state, request_id DESC);
CREATE INDEX access_request_revision ON permissions.access_request (team_id, revision) WHERE revision > 0;
CREATE INDEX access_request_once ON permissions.access_request (team_id, request_id)
    WHERE state = 'approved' AND scope = 'once';

-- Whether an approval of one call has served it.
CREATE INDEX reservation_approval ON permissions.reservation (team_id, approval_id) WHERE approval_id IS NOT NULL;
