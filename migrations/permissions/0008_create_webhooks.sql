-- Addresses that are told of access requests, and what waits to be told.

-- `secret` signs what is sent: sealed, for this team and name alone.
CREATE TABLE permissions.webhook (
    team_id           text        NOT NULL REFERENCES permissions.team,
    name              text        NOT NULL,
    url               text        NOT NULL,
    secret            bytea       NOT NULL,
    create_time       timestamptz NOT NULL,
    last_success_time timestamptz,
    last_error        text        NOT NULL DEFAULT '',
    given_up          bigint      NOT NULL DEFAULT 0,
    -- When it said that it is gone for good: nothing is sent from then on.
    disable_time      timestamptz,
    PRIMARY KEY (team_id, name)
);

-- A message on its way to one webhook; gone once it is taken or given up.
CREATE TABLE permissions.delivery (
    team_id     text        NOT NULL,
    delivery_id uuid        NOT NULL,
    webhook     text        NOT NULL,
    body        text        NOT NULL,
    -- Attempts that were begun.
    attempts    integer     NOT NULL DEFAULT 0,
    -- When it is to be sent; while a process sends it, when that process is taken for dead.
    due_time    timestamptz NOT NULL,
    create_time timestamptz NOT NULL,
    PRIMARY KEY (team_id, delivery_id),
    FOREIGN KEY (team_id, webhook) REFERENCES permissions.webhook ON DELETE CASCADE
);

CREATE INDEX delivery_due ON permissions.delivery (due_time);
CREATE INDEX delivery_webhook ON permissions.delivery (team_id, webhook, due_time);
