-- Events for the trail, written in one transaction with what they tell of.
CREATE TABLE permissions.outbox (
    id          bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    destination text        NOT NULL,
    payload     bytea       NOT NULL,
    create_time timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX outbox_destination ON permissions.outbox (destination, id);
