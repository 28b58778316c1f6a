-- Approvals that are taken back, and the end of what has ended long ago.
ALTER TABLE permissions.access_request
    ADD COLUMN revoked_by    text,
    ADD COLUMN revoke_time   timestamptz,
    ADD COLUMN revoke_reason text NOT NULL DEFAULT '',
    DROP CONSTRAINT access_request_state_check,
    -- `approved` ends as `used`, `expired` or `revoked`, once.
    ADD CONSTRAINT access_request_state_check
        CHECK (state IN ('pending', 'approved', 'denied', 'expired', 'used', 'revoked')),
    ADD CONSTRAINT access_request_revoked_check
        CHECK ((state = 'revoked') <= (num_nulls(decided_by, decided_role, decide_time, scope, revoked_by, revoke_time) = 0));

-- What has ended, by the time at which it would have ended at the latest: it is deleted a while after that.
CREATE INDEX access_request_ended ON permissions.access_request (expire_time)
    WHERE state IN ('denied', 'expired', 'used', 'revoked');

CREATE INDEX delivery_made ON permissions.delivery (create_time);

-- An execution that asks again finds the approval that it took, also where its reservation has expired.
CREATE INDEX reservation_expired_approval ON permissions.reservation (team_id, execution_id)
    WHERE state = 'expired' AND approval_id IS NOT NULL;
