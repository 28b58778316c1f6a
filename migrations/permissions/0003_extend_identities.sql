-- What a key may be used for and what it is for, and which key took its place.
ALTER TABLE permissions.api_key
    -- None: all that the agent's role may.
    ADD COLUMN scopes      text[] NOT NULL DEFAULT '{}',
    ADD COLUMN note        text   NOT NULL DEFAULT '',
    ADD COLUMN replaced_by text,
    -- How long it was valid from its issue, in seconds, 0 for no end; kept when its end is moved, null before.
    ADD COLUMN life_s      bigint;

-- Newest first, as keys are listed.
CREATE INDEX api_key_newest ON permissions.api_key (team_id, create_time DESC, key_id DESC);

-- When a key was last used, by the minute. Apart from the key: what is written often locks nothing that is asked.
CREATE TABLE permissions.api_key_use (
    team_id       text        NOT NULL,
    key_id        text        NOT NULL,
    last_use_time timestamptz NOT NULL,
    PRIMARY KEY (team_id, key_id)
) WITH (fillfactor = 50);
