-- What is told of a definition that waits for approval; null where none does.
CREATE FUNCTION registry.pending_definition(team text, version_id uuid) RETURNS jsonb
LANGUAGE sql STABLE STRICT PARALLEL SAFE AS $$
    SELECT jsonb_build_object('id', v.id, 'version', v.version, 'digest', v.digest,
                              'create_time', v.create_time)
    FROM registry.version v WHERE v.team_id = team AND v.id = version_id
$$;

-- The history of one tool, newest first.
CREATE INDEX version_revision ON registry.version (team_id, name, revision);
