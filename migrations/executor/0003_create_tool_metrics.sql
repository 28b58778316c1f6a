-- Figures of each tool over the last 7 days. Answers of the cache, and of another's run, are counted apart; what a
-- caller cancelled, and what was held back or denied, says nothing of the tool.
CREATE MATERIALIZED VIEW executor.tool_metrics AS
WITH ended AS (
    SELECT team_id, tool_name, status, source, cost_micro_usd, input_tokens, output_tokens, retries, create_time,
           source IN ('cache', 'semantic_cache', 'coalesced') AS is_hit,
           extract(epoch FROM end_time - coalesce(start_time, create_time)) * 1000 AS duration_ms
    FROM executor.execution
    WHERE id >= executor.uuid_floor(now() - interval '7 days') AND end_time IS NOT NULL AND status <> 'cancelled'
      AND error_code NOT IN ('RATE_LIMITED', 'CIRCUIT_OPEN', 'TOOL_BUSY', 'DENIED')
)
SELECT team_id, tool_name,
       count(*) FILTER (WHERE NOT is_hit)                                             AS executions,
       count(*) FILTER (WHERE NOT is_hit AND status = 'succeeded')                    AS successes,
       count(*) FILTER (WHERE NOT is_hit AND status NOT IN ('succeeded', 'timed_out')) AS failures,
       count(*) FILTER (WHERE NOT is_hit AND status = 'timed_out')                    AS timeouts,
       coalesce(avg(duration_ms) FILTER (WHERE NOT is_hit), 0)::float8                AS average_ms,
       coalesce(percentile_cont(0.50) WITHIN GROUP (ORDER BY duration_ms) FILTER (WHERE NOT is_hit), 0)::float8 AS p50_ms,
       coalesce(percentile_cont(0.95) WITHIN GROUP (ORDER BY duration_ms) FILTER (WHERE NOT is_hit), 0)::float8 AS p95_ms,
       coalesce(percentile_cont(0.99) WITHIN GROUP (ORDER BY duration_ms) FILTER (WHERE NOT is_hit), 0)::float8 AS p99_ms,
       coalesce(sum(cost_micro_usd), 0)::bigint                                       AS cost_micro_usd,
       coalesce(sum(input_tokens), 0)::bigint                                         AS input_tokens,
       coalesce(sum(output_tokens), 0)::bigint                                        AS output_tokens,
       coalesce(sum(retries), 0)::bigint                                              AS retries,
       count(*) FILTER (WHERE source = 'fallback')                                    AS fallbacks,
       count(*) FILTER (WHERE is_hit)                                                 AS cache_hits,
       max(create_time)                                                               AS last_use
FROM ended GROUP BY team_id, tool_name;

CREATE UNIQUE INDEX tool_metrics_tool ON executor.tool_metrics (team_id, tool_name);

-- When the figures were last made; one row.
CREATE TABLE executor.tool_metrics_refresh (
    only_row boolean     PRIMARY KEY DEFAULT true CHECK (only_row),
    as_of    timestamptz NOT NULL
);

INSERT INTO executor.tool_metrics_refresh (as_of) VALUES (now());
