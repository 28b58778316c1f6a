-- What is erased with its data subject (GDPR Art. 17): names and texts go, and that something was asked and decided stays.

-- An end user may have a longer name than an index takes.
CREATE INDEX access_request_user ON permissions.access_request (team_id, md5(end_user)) WHERE end_user <> '';

-- Erasures and what came of them, counted with what they count. No name stands here.
CREATE TABLE permissions.erasure (
    team_id         text        NOT NULL,
    id              uuid        NOT NULL,
    access_requests bigint      NOT NULL DEFAULT 0,
    deliveries      bigint      NOT NULL DEFAULT 0,
    begin_time      timestamptz NOT NULL DEFAULT now(),
    -- When nothing was left: what waits in the outbox since before is waited for.
    quiet_time      timestamptz,
    PRIMARY KEY (team_id, id)
);
