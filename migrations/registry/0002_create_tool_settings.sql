-- How tools are run, as operators set it: one row a tool that has other settings than the defaults, the same
-- for all its versions.
CREATE TABLE registry.tool_settings (
    team_id  text   NOT NULL,
    name     text   NOT NULL,
    -- All settings, defaults filled in.
    settings jsonb  NOT NULL,
    -- The catalog revision that last changed them: their etag. 0 stands for a tool without a row.
    revision bigint NOT NULL,
    PRIMARY KEY (team_id, name),
    FOREIGN KEY (team_id, name) REFERENCES registry.tool (team_id, name)
);
