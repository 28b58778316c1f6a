-- Adds records, where every key that they are sealed under is there: see `records_insert`.
WITH team_keys AS (
    SELECT FROM unnest($24::text[], $25::uuid[]) AS k (team_id, subject_id)
    CROSS JOIN LATERAL (
        SELECT FROM audit.subject s
        WHERE s.team_id = k.team_id AND s.subject_id = k.subject_id AND s.wrapped_key IS NOT NULL
        LIMIT 1
    ) live
), user_keys AS (
    SELECT FROM unnest($26::text[], $27::uuid[]) AS k (team_id, subject_id)
    CROSS JOIN LATERAL (
        SELECT FROM audit.subject s
        WHERE s.team_id = k.team_id AND s.subject_id = k.subject_id AND s.wrapped_key IS NOT NULL
        LIMIT 1 FOR SHARE
    ) live
), heads AS (
    INSERT INTO audit.head AS h (team_id, sequence)
    SELECT t.team_id, t.added FROM unnest($22::text[], $23::bigint[]) AS t (team_id, added)
    WHERE (SELECT count(*) FROM team_keys) = cardinality($24::text[])
      AND (SELECT count(*) FROM user_keys) = cardinality($26::text[])
      AND ($28 OR NOT EXISTS (SELECT FROM audit.event))
    ORDER BY t.team_id
    ON CONFLICT (team_id) DO UPDATE SET sequence = h.sequence + excluded.sequence
    RETURNING h.team_id, h.sequence
)
INSERT INTO audit.record (
    team_id, id, sequence, classification, event_time, action, result, agent_id, tool_name, tool_version,
    tool_digest, execution_id, task_id, trace_id, reason, duration_us, cost_micro_usd, decision_id,
    intent_time, subject_id, payload_hmac, payload)
SELECT n.team_id, n.id, h.sequence - n.later, n.classification, n.event_time, n.action, n.result,
    n.agent_id, n.tool_name, n.tool_version, n.tool_digest, n.execution_id, n.task_id, n.trace_id,
    n.reason, n.duration_us, n.cost_micro_usd, n.decision_id, n.intent_time, n.subject_id,
    n.payload_hmac, n.payload
FROM unnest($1::text[], $2::uuid[], $3::bigint[], $4::text[], $5::timestamptz[], $6::text[], $7::text[],
    $8::text[], $9::text[], $10::text[], $11::text[], $12::uuid[], $13::text[], $14::text[], $15::text[],
    $16::bigint[], $17::bigint[], $18::uuid[], $19::timestamptz[], $20::uuid[], $21::bytea[], $29::bytea[]
) AS n (team_id, id, later, classification, event_time, action, result, agent_id, tool_name, tool_version,
    tool_digest, execution_id, task_id, trace_id, reason, duration_us, cost_micro_usd, decision_id,
    intent_time, subject_id, payload_hmac, payload)
JOIN heads h ON h.team_id = n.team_id
