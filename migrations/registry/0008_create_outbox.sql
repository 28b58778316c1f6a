-- Events for the trail, written in one transaction with the change of the catalog or the credential they tell of.
CREATE TABLE registry.outbox (
    id          bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    destination text        NOT NULL,
    payload     bytea       NOT NULL,
    create_time timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX outbox_destination ON registry.outbox (destination, id);
