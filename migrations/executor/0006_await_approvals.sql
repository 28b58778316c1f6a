-- The access request under which a call was made, or for whose approval it waits (status `waiting_for_approval`).
ALTER TABLE executor.execution ADD COLUMN access_request_id uuid;

-- Calls that wait for an approval: they stand apart from the queue, where no look for what is due walks over them, and
-- enter it once they are approved. `payload` is sealed, as a job's is.
CREATE TABLE executor.awaiting (
    team_id           text        NOT NULL,
    id                uuid        NOT NULL,
    access_request_id uuid        NOT NULL,
    -- When it is asked after; moved on before that, so that one process asks at a time.
    look_time         timestamptz NOT NULL,
    payload           bytea       NOT NULL,
    PRIMARY KEY (team_id, id)
) WITH (fillfactor = 70);

CREATE INDEX awaiting_look ON executor.awaiting (look_time);
