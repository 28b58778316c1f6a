-- A decision finds the calls that wait for it.
CREATE INDEX awaiting_request ON executor.awaiting (team_id, access_request_id);
