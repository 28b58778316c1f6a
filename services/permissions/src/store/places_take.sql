-- Takes places in counters for a batch of calls without budgets, unless one of them holds a place already;
-- see places_take. The calls are columns $1 to $9; $10 to $13 are the keys of their counters, which `key`
-- counts from 1. Rows are locked in the same order as reservations_insert.sql does.
WITH asked AS (
    SELECT a.*, (
        SELECT h.decision_id FROM permissions.reservation h
        WHERE h.team_id = ($10::text[])[a.key] AND h.execution_id = a.execution_id
          AND h.state IN ('reserved', 'committed')
        LIMIT 1
    ) AS held
    FROM unnest(
        $1::int[], $2::bigint[], $3::uuid[], $4::uuid[], $5::text[], $6::text[], $7::text[], $8::bigint[],
        $9::timestamptz[]
    ) WITH ORDINALITY AS a(
        key, place, decision_id, execution_id, tool_name, tool_digest, arguments_digest, quota_limit,
        expire_time, n)
    -- All of them; the planner expects few, and so reaches each row of a table by its key.
    LIMIT $14
), counters AS (
    SELECT array_agg(c.used ORDER BY k.key) AS used
    FROM (
        SELECT * FROM unnest($10::text[], $11::uuid[], $12::text[], $13::timestamptz[])
            WITH ORDINALITY AS k(team_id, grant_id, agent_id, window_start, key)
        ORDER BY 1, 2, 3, 4
        LIMIT $14
    ) k
    LEFT JOIN LATERAL (
        SELECT l.used FROM permissions.counter l
        WHERE l.team_id = k.team_id AND l.grant_id = k.grant_id AND l.agent_id = k.agent_id
          AND l.window_start = k.window_start
        FOR UPDATE
    ) c ON true
    WHERE (SELECT count(held) = 0 FROM asked)
), granted AS (
    SELECT a.*, c.used[a.key] + a.place AS used
    FROM asked a, counters c WHERE c.used[a.key] + a.place <= a.quota_limit
), places AS (
    -- They are there and locked. A conflict finds each by its key, whatever the planner thinks of the table.
    INSERT INTO permissions.counter AS c (team_id, grant_id, agent_id, window_start, used)
    SELECT ($10::text[])[key], ($11::uuid[])[key], ($12::text[])[key], ($13::timestamptz[])[key], count(*)
    FROM granted GROUP BY key
    ON CONFLICT (team_id, grant_id, agent_id, window_start) DO UPDATE SET used = c.used + EXCLUDED.used
), inserted AS (
    INSERT INTO permissions.reservation (
        team_id, decision_id, execution_id, state, grant_id, agent_id, window_start, tool_name,
        tool_digest, arguments_digest, used, quota_limit, expire_time)
    SELECT ($10::text[])[key], decision_id, execution_id, 'reserved', ($11::uuid[])[key],
           ($12::text[])[key], ($13::timestamptz[])[key], tool_name, tool_digest, arguments_digest, used,
           quota_limit, expire_time
    FROM granted
)
SELECT c.used[a.key] AS "counter_used?", coalesce(c.used[a.key] + a.place, 0) AS "used!",
       coalesce(c.used[a.key] + a.place <= a.quota_limit, false) AS "granted!"
FROM asked a, counters c WHERE c.used IS NOT NULL ORDER BY a.n
