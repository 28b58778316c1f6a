-- no-transaction
-- Pages of the log of one agent. Built beside what goes on, since selections are written all the time.
CREATE INDEX CONCURRENTLY IF NOT EXISTS selection_agent
    ON selector.selection (team_id, agent_id, create_time DESC, id DESC);
