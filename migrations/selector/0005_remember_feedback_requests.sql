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
