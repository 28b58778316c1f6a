-- Request ids of reviews, so that the same request is the same review. What a review says is in its event.
CREATE TABLE audit.review (
    team_id     text        NOT NULL,
    request_id  text        NOT NULL,
    event_id    uuid        NOT NULL,
    review_time timestamptz NOT NULL,
    digest      bytea       NOT NULL, -- SHA-256 of what was said
    PRIMARY KEY (team_id, request_id)
);
