-- The lease epoch of a taking from the queue that has not begun: under it the tool was surely not asked. Any other
-- number says nothing. Each taking raises the epoch, also those of versions that do not know this column.
ALTER TABLE executor.execution ADD COLUMN unbegun_epoch integer NOT NULL DEFAULT 0;

-- Calls of a later time stand aside, so that a look for what is due does not walk over them. A call may be due and
-- stand aside for a moment; then it is not found until it is called back.
ALTER TABLE executor.job ADD COLUMN aside boolean NOT NULL DEFAULT false;

CREATE INDEX job_ready ON executor.job (priority DESC, id) WHERE owner IS NULL AND NOT aside;
CREATE INDEX job_later ON executor.job (not_before) WHERE owner IS NULL AND NOT aside;
CREATE INDEX job_aside ON executor.job (not_before) WHERE owner IS NULL AND aside;

-- Replaced by the first two: an index more would be written with every call that is queued. What still looks by
-- these finds the same rows without them.
DROP INDEX executor.job_waiting;
DROP INDEX executor.job_due;
