-- The trail as leaves of one Merkle tree a team (RFC 6962), with payloads sealed under a key a data subject.
-- audit.event stays for what was written before: the sequencer moves its rows over, with the positions they have.

-- Whose payloads are sealed under which key. Without an end user, under the key of the team: user_digest is empty.
CREATE TABLE audit.subject (
    team_id     text        NOT NULL,
    subject_id  uuid        NOT NULL,
    user_digest bytea,                 -- HMAC-SHA-256 of the user's name; NULL: erased
    key_id      text        NOT NULL,  -- the wrapping key
    wrapped_key bytea,                 -- NULL: erased
    create_time timestamptz NOT NULL DEFAULT now(),
    erase_time  timestamptz,
    PRIMARY KEY (team_id, subject_id)
);
CREATE UNIQUE INDEX subject_user ON audit.subject (team_id, user_digest) WHERE user_digest IS NOT NULL;
CREATE INDEX subject_key ON audit.subject (key_id, team_id, subject_id) WHERE wrapped_key IS NOT NULL;

-- One row a leaf whose retention has not ended; its index in the tree is sequence - 1. What the leaf's hash covers is
-- never changed; only payload is taken out when its subject is erased.
CREATE TABLE audit.record (
    team_id        text        NOT NULL,
    id             uuid        NOT NULL,
    classification text        NOT NULL,
    sequence       bigint      NOT NULL,
    event_time     timestamptz NOT NULL,
    action         text        NOT NULL,
    result         text        NOT NULL,
    agent_id       text        NOT NULL,
    tool_name      text        NOT NULL,
    tool_version   text        NOT NULL,
    tool_digest    text        NOT NULL,
    execution_id   uuid,
    task_id        text        NOT NULL,
    trace_id       text        NOT NULL,
    reason         text        NOT NULL,
    duration_us    bigint      NOT NULL,
    cost_micro_usd bigint      NOT NULL,
    decision_id    uuid,
    intent_time    timestamptz,
    subject_id     uuid,                 -- NULL: no end user; the payload is sealed under the team's key
    payload_hmac   bytea       NOT NULL, -- HMAC-SHA-256(salt, payload)
    payload        bytea,                -- sealed salt and payload; NULL: erased
    PRIMARY KEY (team_id, id, classification)
) PARTITION BY RANGE (id);

CREATE TABLE audit.record_default PARTITION OF audit.record DEFAULT;

CREATE INDEX record_sequence ON audit.record (team_id, sequence DESC);
-- In order of ids, and so of time: whoever walks a month of an agent reads its index and nothing else, whatever the trail
-- holds besides. uuid_send(id) is the id as bytes, in the same order. Written so, and asked for in that order, only these
-- indexes will do: PostgreSQL would else walk the primary key in search of an agent whom it believes to be frequent.
CREATE INDEX record_agent ON audit.record (team_id, agent_id, uuid_send(id));
CREATE INDEX record_tool ON audit.record (team_id, tool_name, uuid_send(id));
CREATE INDEX record_task ON audit.record (team_id, task_id, uuid_send(id)) WHERE task_id <> '';
CREATE INDEX record_execution ON audit.record (team_id, execution_id, uuid_send(id)) WHERE execution_id IS NOT NULL;
CREATE INDEX record_subject ON audit.record (team_id, subject_id, uuid_send(id)) WHERE subject_id IS NOT NULL;
-- What is common is found on the way; what is rare by these.
CREATE INDEX record_action ON audit.record (team_id, action, uuid_send(id)) WHERE action <> 'tool_invoked';
CREATE INDEX record_result ON audit.record (team_id, result, uuid_send(id)) WHERE result <> 'success';

-- Makes the partitions of this month and of the months ahead, each with one for every classification, so that each
-- can end its retention by itself; safe to call at any time.
CREATE FUNCTION audit.ensure_record_partitions(months_ahead integer) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    month timestamptz;
    name  text;
    class text;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('audit.ensure_partitions'));
    FOR ahead IN 0..months_ahead LOOP
        month := (date_trunc('month', now() AT TIME ZONE 'UTC') + make_interval(months => ahead)) AT TIME ZONE 'UTC';
        name := 'record_' || to_char(month AT TIME ZONE 'UTC', 'YYYY_MM');
        IF to_regclass('audit.' || name) IS NULL THEN
            BEGIN
                EXECUTE format(
                    'CREATE TABLE audit.%I PARTITION OF audit.record FOR VALUES FROM (%L) TO (%L)
                     PARTITION BY LIST (classification)',
                    name, audit.uuid_floor(month),
                    audit.uuid_floor(((month AT TIME ZONE 'UTC') + interval '1 month') AT TIME ZONE 'UTC'));
            EXCEPTION WHEN check_violation THEN
                RAISE WARNING 'records of % stay in the default partition', to_char(month AT TIME ZONE 'UTC', 'YYYY-MM');
                CONTINUE;
            END;
            FOREACH class IN ARRAY ARRAY['public', 'internal', 'confidential', 'restricted'] LOOP
                EXECUTE format('CREATE TABLE audit.%I PARTITION OF audit.%I FOR VALUES IN (%L)',
                    name || '_' || class, name, class);
            END LOOP;
            EXECUTE format('CREATE TABLE audit.%I PARTITION OF audit.%I DEFAULT', name || '_other', name);
        END IF;
    END LOOP;
END
$$;

SELECT audit.ensure_record_partitions(2);

-- Stops whoever writes to a month of a classification until the transaction ends.
CREATE FUNCTION audit.lock_record_partition(month text, class text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('LOCK TABLE audit.%I IN SHARE MODE', 'record_' || month || '_' || class);
END
$$;

-- Ends a month of a classification at once; the month itself goes with the last of them.
CREATE FUNCTION audit.drop_record_partition(month text, class text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    parent   text := 'record_' || month;
    is_empty boolean;
BEGIN
    EXECUTE format('DROP TABLE audit.%I', parent || '_' || class);
    IF (SELECT count(*) FROM pg_inherits WHERE inhparent = ('audit.' || quote_ident(parent))::regclass) = 1 THEN
        EXECUTE format('SELECT NOT EXISTS (SELECT FROM audit.%I)', parent) INTO is_empty;
        IF is_empty THEN
            EXECUTE format('DROP TABLE audit.%I', parent);
        END IF;
    END IF;
END
$$;

-- Who sequences: one process at a time, which counts this up when it begins and whose writes carry its number.
CREATE TABLE audit.sequencer (
    only_row  boolean     PRIMARY KEY DEFAULT true CHECK (only_row),
    epoch     bigint      NOT NULL DEFAULT 0,
    beat_time timestamptz NOT NULL DEFAULT now() -- its last sign of life
);
INSERT INTO audit.sequencer DEFAULT VALUES;

-- The newest tree of each team.
CREATE TABLE audit.tree (
    team_id    text        PRIMARY KEY,
    size       bigint      NOT NULL DEFAULT 0,
    root       bytea       NOT NULL,
    checkpoint text        NOT NULL,
    epoch      bigint      NOT NULL,
    sign_time  timestamptz NOT NULL
);

-- Hashes of the tree in tiles of 256 (C2SP tlog-tiles): level 0 holds leaf hashes, level n + 1 the roots of full tiles
-- of level n. Kept when the records are gone.
CREATE TABLE audit.tile (
    team_id    text     NOT NULL,
    level      smallint NOT NULL,
    tile_index bigint   NOT NULL,
    hashes     bytea    NOT NULL,
    PRIMARY KEY (team_id, level, tile_index)
);
ALTER TABLE audit.tile ALTER COLUMN hashes SET STORAGE EXTERNAL;

-- Checkpoints that are kept: one a minute at most.
CREATE TABLE audit.checkpoint (
    team_id    text        NOT NULL,
    size       bigint      NOT NULL,
    checkpoint text        NOT NULL,
    sign_time  timestamptz NOT NULL,
    PRIMARY KEY (team_id, size)
);

-- What has arrived at the second places of checkpoints.
CREATE TABLE audit.checkpoint_copy (
    place      text        NOT NULL,
    team_id    text        NOT NULL,
    size       bigint      NOT NULL,
    copy_time  timestamptz NOT NULL,
    PRIMARY KEY (place, team_id)
);

-- How the second places are, as whoever sequences last found them.
CREATE TABLE audit.place (
    place      text        PRIMARY KEY,
    ok_time    timestamptz,             -- when it last was as it should be
    check_time timestamptz NOT NULL,
    failure    text        NOT NULL     -- empty: none
);

-- Teams for which nothing is signed, since what is there does not follow from what was signed before.
CREATE TABLE audit.halt (
    team_id   text        PRIMARY KEY,
    reason    text        NOT NULL,
    halt_time timestamptz NOT NULL DEFAULT now()
);

-- Use by day (UTC), folded in with the leaves it comes from, each once. Updated in place, hence the free space.
-- `first_time` and `last_time` are of calls, or of what else was counted while there was no call.
CREATE TABLE audit.usage_day (
    team_id        text   NOT NULL,
    day            date   NOT NULL,
    tool_name      text   NOT NULL,
    agent_id       text   NOT NULL,
    classification text   NOT NULL,
    calls          bigint NOT NULL DEFAULT 0,
    successes      bigint NOT NULL DEFAULT 0,
    failures       bigint NOT NULL DEFAULT 0,
    unknown        bigint NOT NULL DEFAULT 0,
    denials        bigint NOT NULL DEFAULT 0,
    cache_hits     bigint NOT NULL DEFAULT 0,
    cache_misses   bigint NOT NULL DEFAULT 0,
    duration_us    bigint NOT NULL DEFAULT 0,
    cost_micro_usd bigint NOT NULL DEFAULT 0,
    first_time     timestamptz NOT NULL,
    last_time      timestamptz NOT NULL,
    PRIMARY KEY (team_id, day, tool_name, agent_id, classification)
) WITH (fillfactor = 50);

-- What tasks cost, folded in likewise.
CREATE TABLE audit.task_cost (
    team_id        text        NOT NULL,
    task_id        text        NOT NULL,
    agent_id       text        NOT NULL,
    calls          bigint      NOT NULL DEFAULT 0,
    failures       bigint      NOT NULL DEFAULT 0,
    cost_micro_usd bigint      NOT NULL DEFAULT 0,
    first_time     timestamptz NOT NULL,
    last_time      timestamptz NOT NULL,
    PRIMARY KEY (team_id, task_id, agent_id)
) WITH (fillfactor = 50);
CREATE INDEX task_cost_last ON audit.task_cost (team_id, last_time);

-- How far executions were compared with the trail, and the trail with executions. The row of team '' tells how the last
-- turn over all teams went.
CREATE TABLE audit.reconciliation (
    team_id         text        PRIMARY KEY,
    until_time      timestamptz NOT NULL,
    sequence        bigint      NOT NULL DEFAULT 0,
    executions      bigint      NOT NULL DEFAULT 0,
    reconcile_time  timestamptz NOT NULL,
    failure         text        NOT NULL DEFAULT ''
);

-- Executions before that time which had not ended, or whose outcome had not arrived yet: looked at again in turn.
CREATE TABLE audit.unended (
    team_id      text        NOT NULL,
    execution_id uuid        NOT NULL,
    look_time    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (team_id, execution_id)
);
CREATE INDEX unended_look ON audit.unended (team_id, look_time);

-- What that found. Its event in the trail has the same id; `told` once it is there.
CREATE TABLE audit.finding (
    team_id      text        NOT NULL,
    id           uuid        NOT NULL,
    kind         text        NOT NULL,
    execution_id uuid        NOT NULL,
    message      text        NOT NULL,
    find_time    timestamptz NOT NULL DEFAULT now(),
    resolve_time timestamptz,
    told         boolean     NOT NULL DEFAULT false,
    PRIMARY KEY (team_id, id)
);
CREATE UNIQUE INDEX finding_once ON audit.finding (team_id, kind, execution_id);
CREATE INDEX finding_open ON audit.finding (team_id, find_time DESC) WHERE resolve_time IS NULL;
CREATE INDEX finding_untold ON audit.finding (find_time) WHERE NOT told;

-- Erasures, each tried until every part of the suite has done it.
CREATE TABLE audit.erasure (
    team_id      text        NOT NULL,
    id           uuid        NOT NULL,
    subject_id   uuid,                 -- NULL: the trail knew nobody of this name
    sealed_user  bytea,                -- the name, until every part is done
    user_digest  bytea,                -- HMAC-SHA-256 of the name, until 30 days after every part is done: what comes late
                                       -- comes in without its payload
    reason       text        NOT NULL,
    agent_id     text        NOT NULL,
    request_id   text        NOT NULL,
    request_time timestamptz NOT NULL,
    parts        jsonb       NOT NULL DEFAULT '[]',
    tries        integer     NOT NULL DEFAULT 0,     -- those that did not end it: the more, the longer until the next
    next_try_time timestamptz NOT NULL DEFAULT now(),
    done_time    timestamptz,
    certificate  text        NOT NULL DEFAULT '',
    PRIMARY KEY (team_id, id)
);
CREATE UNIQUE INDEX erasure_request ON audit.erasure (team_id, request_id) WHERE request_id <> '';
CREATE INDEX erasure_open ON audit.erasure (next_try_time) WHERE done_time IS NULL;

-- Legal holds.
CREATE TABLE audit.hold (
    team_id         text        NOT NULL,
    id              uuid        NOT NULL,
    name            text        NOT NULL,
    reason          text        NOT NULL,
    subject_id      uuid,              -- NULL: every user
    sealed_user     bytea,             -- the name, for people
    agent_id        text        NOT NULL DEFAULT '',
    start_time      timestamptz,
    end_time        timestamptz,
    place_agent_id  text        NOT NULL,
    place_time      timestamptz NOT NULL DEFAULT now(),
    release_time    timestamptz,
    release_reason  text        NOT NULL DEFAULT '',
    PRIMARY KEY (team_id, id)
);
CREATE UNIQUE INDEX hold_name ON audit.hold (team_id, name) WHERE release_time IS NULL;

-- Records whose retention has ended, as ranges of positions: what an export has hashes of only, and why.
CREATE TABLE audit.ended (
    team_id        text        NOT NULL,
    first_sequence bigint      NOT NULL,
    last_sequence  bigint      NOT NULL,
    event_id       uuid        NOT NULL,  -- the leaf that tells of it
    PRIMARY KEY (team_id, first_sequence)
);
-- From when on records of a classification are there.
CREATE TABLE audit.kept_since (
    team_id        text        NOT NULL,
    classification text        NOT NULL,
    kept_since     timestamptz NOT NULL,
    PRIMARY KEY (team_id, classification)
);
