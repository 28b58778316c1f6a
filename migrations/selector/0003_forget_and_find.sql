-- Digests of arguments that were given for end users: which ones cannot be told any more, and no erasure finds them.
-- They are a hint for suggestions alone, and come again.
DELETE FROM selector.repeat;

-- Pages of the log of one agent, and of one task.
CREATE INDEX selection_agent ON selector.selection (team_id, agent_id, create_time DESC, id DESC);

CREATE INDEX selection_task ON selector.selection (team_id, task_id, create_time DESC, id DESC) WHERE task_id <> '';

ALTER TABLE selector.feedback
    -- Of the record that its quality is in; empty: of what the selection and the catalog say.
    ADD COLUMN category text  NOT NULL DEFAULT '',
    -- The last requests that gave it, oldest first: {id, tool_name, quality, followed}, as they were sent. No words.
    ADD COLUMN requests jsonb NOT NULL DEFAULT '[]';

UPDATE selector.feedback
SET requests = jsonb_build_array(jsonb_build_object(
    'id', request_id, 'tool_name', tool_name, 'quality', quality, 'followed', followed))
WHERE request_id <> '';

CREATE INDEX feedback_requests ON selector.feedback USING gin (requests jsonb_path_ops);
