-- Made anew as it was, but for its sums: they end at the largest bigint, where a cast that fails would leave the
-- figures of every team as they are for as long as the rows count. And the oldest id is reckoned once, not for each
-- row.
DROP MATERIALIZED VIEW executor.tool_metrics;

CREATE MATERIALIZED VIEW executor.tool_metrics AS
WITH ended AS (
    SELECT team_id, tool_name, status, source, cost_micro_usd, input_tokens, output_tokens, retries, create_time,
           source IN ('cache', 'semantic_cache', 'coalesced') AS is_hit,
           extract(epoch FROM end_time - coalesce(start_time, create_time)) * 1000 AS duration_ms
    FROM executor.execution
    WHERE id >= (SELECT executor.uuid_floor(now() - interval '7 days'))
      AND end_time IS NOT NULL AND status <> 'cancelled'
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
       least(coalesce(sum(cost_micro_usd), 0), 9223372036854775807)::bigint           AS cost_micro_usd,
       least(coalesce(sum(input_tokens), 0), 9223372036854775807)::bigint             AS input_tokens,
       least(coalesce(sum(output_tokens), 0), 9223372036854775807)::bigint            AS output_tokens,
       coalesce(sum(retries), 0)::bigint                                              AS retries,
       count(*) FILTER (WHERE source = 'fallback')                                    AS fallbacks,
       count(*) FILTER (WHERE is_hit)                                                 AS cache_hits,
       max(create_time)                                                               AS last_use
FROM ended GROUP BY team_id, tool_name;

CREATE UNIQUE INDEX tool_metrics_tool ON executor.tool_metrics (team_id, tool_name);

-- How long it took to make them: what takes long is asked for less often.
ALTER TABLE executor.tool_metrics_refresh ADD COLUMN took interval NOT NULL DEFAULT '0';

-- The last week of all teams, without the rest of its month: ids rise with the time, and so does their place.
CREATE INDEX execution_age ON executor.execution USING brin (id) WITH (pages_per_range = 32, autosummarize = on);

-- The executions of a status that few have. That it came to be one of the many, or runs, costs no entry.
CREATE INDEX execution_status ON executor.execution (team_id, status, id DESC)
    WHERE status NOT IN ('succeeded', 'running');
