-- What an execution tells besides its outcome, and how it waits for its turn.
ALTER TABLE executor.execution
    ADD COLUMN attempts_json text        NOT NULL DEFAULT '',
    ADD COLUMN retries       integer     NOT NULL DEFAULT 0,
    ADD COLUMN source        text        NOT NULL DEFAULT '',
    ADD COLUMN cache_age_ms  bigint      NOT NULL DEFAULT 0,
    ADD COLUMN warnings_json text        NOT NULL DEFAULT '',
    ADD COLUMN error_code    text        NOT NULL DEFAULT '',
    ADD COLUMN input_tokens  bigint      NOT NULL DEFAULT 0,
    ADD COLUMN output_tokens bigint      NOT NULL DEFAULT 0,
    ADD COLUMN asynchronous  boolean     NOT NULL DEFAULT false,
    ADD COLUMN priority      smallint    NOT NULL DEFAULT 0,
    ADD COLUMN not_before    timestamptz,
    ADD COLUMN start_time    timestamptz,
    ADD COLUMN deliveries    integer     NOT NULL DEFAULT 0,
    ADD COLUMN max_deliveries integer    NOT NULL DEFAULT 1,
    ADD COLUMN cancel_requested boolean  NOT NULL DEFAULT false,
    -- Whether its decision holds a place in a limit, which ends with the outcome.
    ADD COLUMN reserved      boolean     NOT NULL DEFAULT false;

-- One row an accepted call that has not ended: what a process needs to run it, sealed, since its arguments may
-- hold secrets. Deleted with the outcome. `owner` is null while it waits.
CREATE TABLE executor.job (
    team_id    text        NOT NULL,
    id         uuid        NOT NULL,
    tool_name  text        NOT NULL,
    priority   smallint    NOT NULL,
    not_before timestamptz NOT NULL,
    owner      uuid,
    payload    bytea       NOT NULL,
    PRIMARY KEY (team_id, id)
) WITH (fillfactor = 70);

CREATE INDEX job_waiting ON executor.job (priority DESC, id) WHERE owner IS NULL;
CREATE INDEX job_due ON executor.job (not_before) WHERE owner IS NULL;

-- What a running tool says of itself, and attempts that failed; kept for a week.
CREATE TABLE executor.progress (
    team_id      text        NOT NULL,
    execution_id uuid        NOT NULL,
    sequence     bigint      NOT NULL,
    kind         text        NOT NULL CHECK (kind IN ('progress', 'log', 'attempt')),
    body_json    text        NOT NULL,
    create_time  timestamptz NOT NULL,
    PRIMARY KEY (team_id, execution_id, sequence)
);

CREATE INDEX progress_age ON executor.progress (create_time);
CREATE INDEX execution_request ON executor.execution (team_id, request_id, id DESC) WHERE request_id <> '';
CREATE INDEX execution_error ON executor.execution (team_id, error_code, id DESC) WHERE error_code <> '';

-- Rows of these come and go by the thousand: dead ones are cleared away as soon as there are some hundreds, or every
-- look at a queue walks over them.
ALTER TABLE executor.outbox SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 500);
ALTER TABLE executor.job SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 500);
