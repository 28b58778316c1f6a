-- no-transaction
-- Pages of the log of one task.
CREATE INDEX CONCURRENTLY IF NOT EXISTS selection_task
    ON selector.selection (team_id, task_id, create_time DESC, id DESC) WHERE task_id <> '';
