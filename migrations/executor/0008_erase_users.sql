-- What is erased with its data subject (GDPR Art. 17): texts go, and the row that an intent has an outcome stays.

-- Whether arguments, result and error were erased: whatever ends it later writes no text again.
ALTER TABLE executor.execution ADD COLUMN erased boolean NOT NULL DEFAULT false;

-- What is left to erase of a user: `user_id` goes last.
CREATE INDEX execution_user ON executor.execution (team_id, user_id, id) WHERE user_id <> '';

-- Erasures and what came of them, counted with what they count. No name stands here.
CREATE TABLE executor.erasure (
    team_id     text        NOT NULL,
    id          uuid        NOT NULL,
    executions  bigint      NOT NULL DEFAULT 0,
    cached      bigint      NOT NULL DEFAULT 0,
    artifacts   bigint      NOT NULL DEFAULT 0,
    begin_time  timestamptz NOT NULL DEFAULT now(),
    -- When no call was left that could write a text: what waits in the outbox since before is waited for.
    quiet_time  timestamptz,
    PRIMARY KEY (team_id, id)
);

-- Executions that may have kept their result as a file. Every process deletes it where it has one, since each may have
-- a workspace of its own, and adds itself to `done_by`; one that was away finds the row when it is back.
CREATE TABLE executor.file_erasure (
    team_id      text        NOT NULL,
    execution_id uuid        NOT NULL,
    task_id      text        NOT NULL,
    erasure_id   uuid        NOT NULL,
    erase_time   timestamptz NOT NULL DEFAULT now(),
    done_by      uuid[]      NOT NULL DEFAULT '{}',
    PRIMARY KEY (team_id, execution_id)
);
CREATE INDEX file_erasure_erasure ON executor.file_erasure (team_id, erasure_id);
CREATE INDEX file_erasure_time ON executor.file_erasure (erase_time);
