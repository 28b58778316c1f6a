-- That a threshold of a team's budget was passed on a day (UTC), each told once: whoever adds the row tells of it in the
-- same transaction.
CREATE TABLE permissions.budget_alert (
    team_id           text        NOT NULL,
    day               date        NOT NULL,
    threshold_percent integer     NOT NULL CHECK (threshold_percent IN (50, 80, 100)),
    -- Spent or reserved when it was seen, and the limit then.
    used_micro_usd    bigint      NOT NULL,
    limit_micro_usd   bigint      NOT NULL,
    create_time       timestamptz NOT NULL,
    PRIMARY KEY (team_id, day, threshold_percent)
);
