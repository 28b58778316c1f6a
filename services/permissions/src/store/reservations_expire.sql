-- Ends reservations past their time; see reservations_expire. Locks in the same order as reservations_insert.sql does.
-- The only place of an approval is not given back: the call may have been made, and its settlement be late.
WITH late AS (
    SELECT team_id, decision_id FROM permissions.reservation
    WHERE state = 'reserved' AND expire_time <= $1
    LIMIT $2 FOR UPDATE SKIP LOCKED
), expired AS (
    UPDATE permissions.reservation r SET state = 'expired' FROM late l
    WHERE r.team_id = l.team_id AND r.decision_id = l.decision_id
    RETURNING r.team_id, r.grant_id, r.agent_id, r.window_start, r.quota_limit, r.day_limit, r.total_limit,
              r.day, r.cost_micro_usd
), counters AS (
    SELECT k.*
    FROM (
        SELECT team_id, grant_id, agent_id, window_start, count(*) AS places
        FROM expired WHERE quota_limit > 0 GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
    ) k
    CROSS JOIN LATERAL (
        SELECT 1 FROM permissions.counter l
        WHERE l.team_id = k.team_id AND l.grant_id = k.grant_id AND l.agent_id = k.agent_id
          AND l.window_start = k.window_start
        FOR UPDATE
    ) c
), counted AS (
    UPDATE permissions.counter c SET used = greatest(c.used - k.places, 0) FROM counters k
    WHERE c.team_id = k.team_id AND c.grant_id = k.grant_id AND c.agent_id = k.agent_id
      AND c.window_start = k.window_start
), tallies AS (
    SELECT k.*
    FROM (
        SELECT e.team_id, w.counter_id, e.agent_id, w.window_start, count(*) AS places
        FROM expired e
        CROSS JOIN LATERAL (VALUES
            (e.grant_id, date_trunc('day', e.window_start, 'UTC'), e.day_limit > 0),
            (e.grant_id, 'epoch'::timestamptz, e.total_limit > 0)
        ) AS w(counter_id, window_start, is_there)
        WHERE w.is_there AND (SELECT count(*) FROM counters) >= 0
        GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
    ) k
    CROSS JOIN LATERAL (
        SELECT 1 FROM permissions.tally l
        WHERE l.team_id = k.team_id AND l.counter_id = k.counter_id AND l.agent_id = k.agent_id
          AND l.window_start = k.window_start
        FOR UPDATE
    ) t
), tallied AS (
    UPDATE permissions.tally t SET used = greatest(t.used - k.places, 0) FROM tallies k
    WHERE t.team_id = k.team_id AND t.counter_id = k.counter_id AND t.agent_id = k.agent_id
      AND t.window_start = k.window_start
), spends AS (
    SELECT k.*
    FROM (
        SELECT team_id, day, sum(cost_micro_usd)::bigint AS given_back
        FROM expired WHERE day IS NOT NULL AND (SELECT count(*) FROM tallies) >= 0
        GROUP BY 1, 2 ORDER BY 1, 2
    ) k
    CROSS JOIN LATERAL (
        SELECT 1 FROM permissions.spend l WHERE l.team_id = k.team_id AND l.day = k.day FOR UPDATE
    ) s
), given_back AS (
    UPDATE permissions.spend s
    SET reserved_micro_usd = greatest(s.reserved_micro_usd - k.given_back, 0)
    FROM spends k WHERE s.team_id = k.team_id AND s.day = k.day
)
SELECT count(*) AS "expired!" FROM expired
