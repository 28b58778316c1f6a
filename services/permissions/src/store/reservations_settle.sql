-- Ends reservations; see reservations_settle. Locks in the same order as reservations_insert.sql does.
WITH asked AS (
    SELECT a.*, o.n
    FROM jsonb_array_elements($1::jsonb) WITH ORDINALITY AS o(item, n),
         jsonb_to_record(o.item) AS a(
             team_id text, decision_id uuid, committed boolean, cost_micro_usd bigint)
), found AS (
    SELECT a.n, a.committed, a.cost_micro_usd AS cost, r.*
    FROM (SELECT * FROM asked ORDER BY team_id, decision_id) a
    CROSS JOIN LATERAL (
        SELECT l.team_id, l.decision_id, l.execution_id, l.state, l.grant_id, l.agent_id,
               l.window_start, l.quota_limit, l.day_limit, l.total_limit, l.approval_id, l.day,
               l.cost_micro_usd AS reserved
        FROM permissions.reservation l
        WHERE l.team_id = a.team_id AND l.decision_id = a.decision_id
        FOR UPDATE
    ) r
), ending AS (
    -- What expired gave its places back, but not that of an approval, which only this says was not used.
    SELECT f.*, f.committed::int - (f.state = 'reserved')::int AS places, f.committed::int - 1 AS approvals,
           CASE WHEN f.state = 'reserved' THEN f.reserved ELSE 0 END AS given_back,
           CASE WHEN f.committed THEN f.cost ELSE 0 END AS charged
    FROM found f
    -- Not NOT EXISTS, which may be answered by reading the whole index.
    WHERE f.state = 'reserved' OR (f.state = 'expired' AND NOT f.committed AND f.approval_id IS NOT NULL)
       OR (f.state = 'expired' AND f.committed AND (
        SELECT o.decision_id FROM permissions.reservation o
        WHERE o.team_id = f.team_id AND o.execution_id = f.execution_id
          AND o.state IN ('reserved', 'committed')
        LIMIT 1) IS NULL)
), ended AS (
    UPDATE permissions.reservation r
    SET state = CASE WHEN e.committed THEN 'committed' ELSE 'released' END
    FROM ending e WHERE r.team_id = e.team_id AND r.decision_id = e.decision_id
), counters AS (
    SELECT k.team_id, k.grant_id, k.agent_id, k.window_start,
           greatest(c.used + k.places, 0)::bigint AS used
    FROM (
        SELECT team_id, grant_id, agent_id, window_start, sum(places) AS places
        FROM ending WHERE quota_limit > 0 GROUP BY 1, 2, 3, 4 HAVING sum(places) <> 0
        ORDER BY 1, 2, 3, 4
    ) k
    CROSS JOIN LATERAL (
        SELECT l.used FROM permissions.counter l
        WHERE l.team_id = k.team_id AND l.grant_id = k.grant_id AND l.agent_id = k.agent_id
          AND l.window_start = k.window_start
        FOR UPDATE
    ) c
), counted AS (
    -- They are there and locked. A conflict finds each by its key, whatever the planner thinks of the table.
    INSERT INTO permissions.counter (team_id, grant_id, agent_id, window_start, used)
    SELECT team_id, grant_id, agent_id, window_start, used FROM counters
    ON CONFLICT (team_id, grant_id, agent_id, window_start) DO UPDATE SET used = EXCLUDED.used
), tallies AS (
    SELECT k.team_id, k.counter_id, k.agent_id, k.window_start,
           greatest(t.used + k.places, 0)::bigint AS used
    FROM (
        SELECT e.team_id, w.counter_id, e.agent_id, w.window_start, sum(w.places) AS places
        FROM ending e
        CROSS JOIN LATERAL (VALUES
            (e.grant_id, date_trunc('day', e.window_start, 'UTC'), e.day_limit > 0, e.places),
            (e.grant_id, 'epoch'::timestamptz, e.total_limit > 0, e.places),
            (e.approval_id, 'epoch'::timestamptz, e.approval_id IS NOT NULL, e.approvals)
        ) AS w(counter_id, window_start, is_there, places)
        WHERE w.is_there AND (SELECT count(*) FROM counters) >= 0
        GROUP BY 1, 2, 3, 4 HAVING sum(w.places) <> 0
        ORDER BY 1, 2, 3, 4
    ) k
    CROSS JOIN LATERAL (
        SELECT l.used FROM permissions.tally l
        WHERE l.team_id = k.team_id AND l.counter_id = k.counter_id AND l.agent_id = k.agent_id
          AND l.window_start = k.window_start
        FOR UPDATE
    ) t
), tallied AS (
    INSERT INTO permissions.tally (team_id, counter_id, agent_id, window_start, used)
    SELECT team_id, counter_id, agent_id, window_start, used FROM tallies
    ON CONFLICT (team_id, counter_id, agent_id, window_start) DO UPDATE SET used = EXCLUDED.used
), spends AS (
    SELECT k.team_id, k.day, greatest(s.reserved_micro_usd - k.given_back, 0) AS reserved_micro_usd,
           s.spent_micro_usd + k.charged AS spent_micro_usd
    FROM (
        SELECT team_id, day, sum(given_back)::bigint AS given_back, sum(charged)::bigint AS charged
        FROM ending WHERE day IS NOT NULL AND (SELECT count(*) FROM tallies) >= 0 GROUP BY 1, 2
        HAVING sum(given_back) > 0 OR sum(charged) > 0
        ORDER BY 1, 2
    ) k
    CROSS JOIN LATERAL (
        SELECT l.reserved_micro_usd, l.spent_micro_usd FROM permissions.spend l
        WHERE l.team_id = k.team_id AND l.day = k.day
        FOR UPDATE
    ) s
), charged AS (
    INSERT INTO permissions.spend (team_id, day, reserved_micro_usd, spent_micro_usd)
    SELECT * FROM spends
    ON CONFLICT (team_id, day) DO UPDATE
    SET reserved_micro_usd = EXCLUDED.reserved_micro_usd, spent_micro_usd = EXCLUDED.spent_micro_usd
)
SELECT f.n IS NOT NULL AS "known!"
FROM asked a LEFT JOIN found f ON f.n = a.n ORDER BY a.n
