-- Takes what a batch of calls asks for; see reservations_insert. Rows are locked in one order everywhere
-- (reservations, counters, tallies, budgets, each by its key) and read when locked: what is decided on them
-- holds until the end of the statement.
WITH asked AS (
    SELECT a.*, o.n
    FROM jsonb_array_elements($1::jsonb) WITH ORDINALITY AS o(item, n),
         jsonb_to_record(o.item) AS a(
             team_id text, decision_id uuid, execution_id uuid, grant_id uuid, agent_id text,
             window_start timestamptz, tool_name text, tool_digest text, arguments_digest text,
             quota_limit bigint, day_start timestamptz, day_limit bigint, total_limit bigint, approval_id uuid,
             expire_time timestamptz, day date, cost_micro_usd bigint, budget_limit bigint)
), held AS (
    SELECT a.n, a.expire_time AS until, r.*
    FROM (SELECT * FROM asked ORDER BY team_id, execution_id) a
    CROSS JOIN LATERAL (
        SELECT h.* FROM permissions.reservation h
        WHERE h.team_id = a.team_id AND h.execution_id = a.execution_id
          AND h.state IN ('reserved', 'committed')
        LIMIT 1 FOR UPDATE
    ) r
), kept AS (
    UPDATE permissions.reservation r SET expire_time = greatest(r.expire_time, h.until) FROM held h
    WHERE h.state = 'reserved' AND r.team_id = h.team_id AND r.decision_id = h.decision_id
), own AS (
    -- The approval that this execution took before, under a reservation that has expired: it is still its own.
    SELECT a.n, r.decision_id
    FROM (SELECT * FROM asked WHERE approval_id IS NOT NULL ORDER BY team_id, execution_id) a
    CROSS JOIN LATERAL (
        SELECT o.decision_id FROM permissions.reservation o
        WHERE o.team_id = a.team_id AND o.execution_id = a.execution_id AND o.state = 'expired'
          AND o.approval_id = a.approval_id AND (SELECT count(*) FROM held) >= 0
        LIMIT 1 FOR UPDATE
    ) r
), open AS (
    SELECT a.*, EXISTS (SELECT FROM own o WHERE o.n = a.n) AS is_own
    FROM asked a WHERE NOT EXISTS (SELECT FROM held h WHERE h.n = a.n)
), counters AS (
    SELECT k.*, c.used
    FROM (
        SELECT DISTINCT team_id, grant_id, agent_id, window_start FROM open WHERE quota_limit > 0
        ORDER BY 1, 2, 3, 4
    ) k
    CROSS JOIN LATERAL (
        SELECT l.used FROM permissions.counter l
        WHERE l.team_id = k.team_id AND l.grant_id = k.grant_id AND l.agent_id = k.agent_id
          AND l.window_start = k.window_start
        FOR UPDATE
    ) c
), wants AS (
    SELECT o.n, o.team_id, w.counter_id, o.agent_id, w.window_start, w.period, w.most
    FROM open o
    CROSS JOIN LATERAL (VALUES
        ('day', o.grant_id, o.day_start, o.day_limit),
        ('total', o.grant_id, 'epoch'::timestamptz, o.total_limit),
        ('approval', o.approval_id, 'epoch'::timestamptz, (o.approval_id IS NOT NULL AND NOT o.is_own)::int::bigint)
    ) AS w(period, counter_id, window_start, most)
    WHERE w.most > 0
), tallies AS (
    SELECT k.*, t.used
    FROM (
        SELECT DISTINCT team_id, counter_id, agent_id, window_start FROM wants
        WHERE (SELECT count(*) FROM counters) >= 0
        ORDER BY 1, 2, 3, 4
    ) k
    CROSS JOIN LATERAL (
        SELECT l.used FROM permissions.tally l
        WHERE l.team_id = k.team_id AND l.counter_id = k.counter_id AND l.agent_id = k.agent_id
          AND l.window_start = k.window_start
        FOR UPDATE
    ) t
), spends AS (
    SELECT k.*, s.used
    FROM (
        SELECT DISTINCT team_id, day FROM open
        WHERE day IS NOT NULL AND (SELECT count(*) FROM tallies) >= 0
        ORDER BY 1, 2
    ) k
    CROSS JOIN LATERAL (
        SELECT l.reserved_micro_usd + l.spent_micro_usd AS used FROM permissions.spend l
        WHERE l.team_id = k.team_id AND l.day = k.day
        FOR UPDATE
    ) s
), placed AS (
    SELECT w.*, t.used AS before,
           row_number() OVER (
               PARTITION BY w.team_id, w.counter_id, w.agent_id, w.window_start ORDER BY w.n
           ) AS place
    FROM wants w
    LEFT JOIN tallies t ON t.team_id = w.team_id AND t.counter_id = w.counter_id
        AND t.agent_id = w.agent_id AND t.window_start = w.window_start
), tallied AS (
    SELECT n, bool_and(before IS NOT NULL AND before + place <= most) AS fits,
           max(before) FILTER (WHERE period = 'day') AS day_before,
           max(before) FILTER (WHERE period = 'total') AS total_before,
           max(before) FILTER (WHERE period = 'approval') AS approval_before
    FROM placed GROUP BY n
), ranked AS (
    SELECT o.*, c.used AS counter_used, s.used AS budget_before,
           t.day_before, t.total_before, t.approval_before, coalesce(t.fits, true) AS fits,
           row_number() OVER (
               PARTITION BY o.team_id, o.grant_id, o.agent_id, o.window_start ORDER BY o.n
           ) AS place,
           sum(o.cost_micro_usd) OVER (PARTITION BY o.team_id, o.day ORDER BY o.n) AS cost_so_far
    FROM open o
    LEFT JOIN counters c ON o.quota_limit > 0 AND c.team_id = o.team_id
        AND c.grant_id = o.grant_id AND c.agent_id = o.agent_id AND c.window_start = o.window_start
    LEFT JOIN spends s ON s.team_id = o.team_id AND s.day = o.day
    LEFT JOIN tallied t ON t.n = o.n
), fitting AS (
    SELECT r.*,
           coalesce(r.counter_used + row_number() OVER (
               PARTITION BY r.team_id, r.grant_id, r.agent_id, r.window_start ORDER BY r.n
           ), 0) AS used,
           coalesce(r.budget_before + sum(r.cost_micro_usd) OVER (
               PARTITION BY r.team_id, r.day ORDER BY r.n
           ), 0)::bigint AS budget_used
    FROM ranked r
    WHERE (r.quota_limit = 0 OR r.counter_used + r.place <= r.quota_limit) AND r.fits
      AND (r.day IS NULL OR (r.budget_before IS NOT NULL AND (
          r.cost_micro_usd = 0 OR r.budget_before + r.cost_so_far <= r.budget_limit)))
), taken AS (
    SELECT p.*, p.before + row_number() OVER (
               PARTITION BY p.team_id, p.counter_id, p.agent_id, p.window_start ORDER BY p.n
           ) AS used
    FROM placed p JOIN fitting f ON f.n = p.n
), granted AS (
    SELECT f.*,
           coalesce((SELECT t.used FROM taken t WHERE t.n = f.n AND t.period = 'day'), 0) AS day_used,
           coalesce((SELECT t.used FROM taken t WHERE t.n = f.n AND t.period = 'total'), 0) AS total_used
    FROM fitting f
), places AS (
    -- They are there and locked. A conflict finds each by its key, whatever the planner thinks of the table.
    INSERT INTO permissions.counter AS c (team_id, grant_id, agent_id, window_start, used)
    SELECT team_id, grant_id, agent_id, window_start, count(*)
    FROM granted WHERE quota_limit > 0 GROUP BY 1, 2, 3, 4
    ON CONFLICT (team_id, grant_id, agent_id, window_start) DO UPDATE SET used = c.used + EXCLUDED.used
), marks AS (
    INSERT INTO permissions.tally AS c (team_id, counter_id, agent_id, window_start, used)
    SELECT team_id, counter_id, agent_id, window_start, count(*) FROM taken GROUP BY 1, 2, 3, 4
    ON CONFLICT (team_id, counter_id, agent_id, window_start) DO UPDATE SET used = c.used + EXCLUDED.used
), costs AS (
    INSERT INTO permissions.spend AS s (team_id, day, reserved_micro_usd)
    SELECT team_id, day, sum(cost_micro_usd)
    FROM granted WHERE day IS NOT NULL GROUP BY 1, 2 HAVING sum(cost_micro_usd) > 0
    ON CONFLICT (team_id, day)
    DO UPDATE SET reserved_micro_usd = s.reserved_micro_usd + EXCLUDED.reserved_micro_usd
), inserted AS (
    INSERT INTO permissions.reservation (
        team_id, decision_id, execution_id, state, grant_id, agent_id, window_start, tool_name,
        tool_digest, arguments_digest, used, quota_limit, day_used, day_limit, total_used, total_limit,
        approval_id, expire_time, day, cost_micro_usd, budget_limit, budget_used)
    SELECT team_id, decision_id, execution_id, 'reserved', grant_id, agent_id, window_start,
           tool_name, tool_digest, arguments_digest, used, quota_limit, day_used, day_limit, total_used,
           total_limit, approval_id, expire_time, day, cost_micro_usd, budget_limit, budget_used
    FROM granted
), moved AS (
    UPDATE permissions.reservation r SET approval_id = NULL
    FROM own o JOIN granted g ON g.n = o.n
    WHERE r.team_id = g.team_id AND r.decision_id = o.decision_id
)
SELECT g.n IS NOT NULL AS "granted!", r.counter_used AS "counter_used?", g.used AS "used?",
       r.day_before AS "day_before?", g.day_used AS "day_used?",
       r.total_before AS "total_before?", g.total_used AS "total_used?",
       r.approval_before AS "approval_before?",
       r.budget_before AS "budget_before?", g.budget_used AS "budget_used?",
       h.decision_id AS "held_id?", h.grant_id AS "held_grant?", h.agent_id AS "held_agent?",
       h.window_start AS "held_window?", h.tool_name AS "held_tool?",
       h.tool_digest AS "held_tool_digest?", h.arguments_digest AS "held_arguments_digest?",
       h.used AS "held_used?", h.quota_limit AS "held_limit?",
       h.day_used AS "held_day_used?", h.day_limit AS "held_day_limit?",
       h.total_used AS "held_total_used?", h.total_limit AS "held_total_limit?",
       h.approval_id AS "held_approval?", h.day AS "held_day?",
       h.budget_limit AS "held_budget_limit?", h.budget_used AS "held_budget_used?"
FROM asked a
LEFT JOIN held h ON h.n = a.n
LEFT JOIN ranked r ON r.n = a.n
LEFT JOIN granted g ON g.n = a.n
ORDER BY a.n
