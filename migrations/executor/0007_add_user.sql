-- The end user for whom the agent called, as the caller's token or the agent itself says; empty: none, or erased.
ALTER TABLE executor.execution ADD COLUMN user_id text NOT NULL DEFAULT '';
