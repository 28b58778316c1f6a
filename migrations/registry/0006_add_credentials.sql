-- Credentials that tools and servers are reached with. What may be secret is sealed before it comes here.
CREATE TABLE registry.credential (
    team_id            text        NOT NULL,
    name               text        NOT NULL,
    kind               text        NOT NULL,
    -- The greatest version there ever was; its row is locked by whoever adds or activates one.
    last_version       integer     NOT NULL DEFAULT 0,
    -- Seconds from one rotation to the next as it was asked for; 0: the default.
    interval_s         bigint      NOT NULL DEFAULT 0,
    -- Seconds that the version before stays valid; null: the default.
    overlap_s          bigint,
    -- Where the next secret comes from: a file, an address, or neither.
    source_file        text,
    source_url         text,
    -- The key that digests of its secrets are made with, and which wrapping key it is wrapped under; null: none yet.
    digest_key_id      text,
    digest_key         bytea,
    next_rotation_time timestamptz,
    -- Rotations in a row that failed, and why the last one did.
    failures           integer     NOT NULL DEFAULT 0,
    last_error         text        NOT NULL DEFAULT '',
    create_time        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (team_id, name),
    CHECK (source_file IS NULL OR source_url IS NULL),
    CHECK ((digest_key_id IS NULL) = (digest_key IS NULL))
);

CREATE INDEX credential_due ON registry.credential (next_rotation_time) WHERE next_rotation_time IS NOT NULL;

CREATE TABLE registry.credential_version (
    team_id          text        NOT NULL,
    name             text        NOT NULL,
    version          integer     NOT NULL,
    state            text        NOT NULL,
    -- Which wrapping key the data key is wrapped under, the wrapped data key, and the secret sealed under it.
    key_id           text,
    wrapped_key      bytea,
    sealed           bytea,
    -- HMAC-SHA-256 of the secret as it was given, under the credential's digest key: stays when the version ends, so
    -- that a source that gives the same again is noticed. Empty: the version never came to be used.
    digest           bytea       NOT NULL,
    -- The OAuth 2.0 access token fetched with it, sealed under the same data key.
    token            bytea,
    token_time       timestamptz,
    token_end_time   timestamptz,
    -- Which fetch of a token is under way, and until when at most.
    fetch_id         uuid,
    fetch_until      timestamptz,
    -- Fetches in a row that failed, why the last one did, and when the next may be made.
    fetch_failures   integer     NOT NULL DEFAULT 0,
    fetch_error      text        NOT NULL DEFAULT '',
    next_fetch_time  timestamptz,
    create_time      timestamptz NOT NULL DEFAULT now(),
    expire_time      timestamptz,
    retire_time      timestamptz,
    last_used_time   timestamptz,
    PRIMARY KEY (team_id, name, version),
    FOREIGN KEY (team_id, name) REFERENCES registry.credential (team_id, name),
    CHECK (state IN ('pending', 'active', 'retiring', 'revoked')),
    -- A version that ended has nothing left to open, and no other is without it.
    CHECK ((state = 'revoked') = (sealed IS NULL)),
    CHECK ((state = 'revoked') = (wrapped_key IS NULL)),
    CHECK ((state = 'revoked') = (key_id IS NULL)),
    CHECK (state <> 'revoked' OR token IS NULL)
);

-- At most one version is used and one more stays valid beside it.
CREATE UNIQUE INDEX credential_version_active ON registry.credential_version (team_id, name)
    WHERE state = 'active';
CREATE UNIQUE INDEX credential_version_retiring ON registry.credential_version (team_id, name)
    WHERE state = 'retiring';
-- What may still be opened: looked through for versions whose end has come, and when wrapping keys change.
CREATE INDEX credential_version_live ON registry.credential_version (key_id) WHERE state <> 'revoked';
