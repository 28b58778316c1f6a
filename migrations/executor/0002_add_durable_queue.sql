-- What an execution tells besides its outcome, and how it waits for its turn.
ALTER TABLE executor.execution
    ADD COLUMN attempts_json text        NOT NULL DEFAULT '',
    ADD COLUMN retries       integer     NOT NULL DEFAULT 0,
    ADD COLUMN source        text        NOT NULL DEFAULT '',
    ADD COLUMN cache_age_ms  bigint      NOT NULL DEFAULT 0,
    ADD COLUMN warnings_json text        NOT NULL DEFAULT '',
    ADD COLUMN error_code    text        NOT NULL DEFAULT '',
    ADD COLUMN input_tokens  bigint      NOT NULL DEFAULT 0,
    ADD COLUMN output_tokens bigint      NOT NULL DEFAULT 0,
    ADD COLUMN asynchronous  boolean     NOT NULL DEFAULT false,
    ADD COLUMN priority      smallint    NOT NULL DEFAULT 0,
    ADD COLUMN not_before    timestamptz,
    ADD COLUMN start_time    timestamptz,
    ADD COLUMN deliveries    integer     NOT NULL DEFAULT 0,
    ADD COLUMN max_deliveries integer    NOT NULL DEFAULT 1,
    ADD COLUMN cancel_requested boolean  NOT NULL DEFAULT false;

-- One row an accepted call that has not ended: what a process needs to run it, sealed, since its arguments may
-- hold secrets. Deleted with the outcome. `owner` is null while it waits.
CREATE TABLE executor.job (
    team_id    text        NOT NULL,
    id         uuid        NOT NULL,
    tool_name  text        NOT NULL,
    priority   smallint    NOT NULL,
    not_before timestamptz NOT NULL,
    owner      uuid,
    payload    bytea       NOT NULL,
    PRIMARY KEY (team_id, id)
) WITH (fillfactor = 70);

CREATE INDEX job_waiting ON executor.job (priority DESC, id) WHERE owner IS NULL;
CREATE INDEX job_due ON executor.job (not_before) WHERE owner IS NULL;

-- What a running tool says of itself, and attempts that failed; kept for a week.
CREATE TABLE executor.progress (
    team_id      text        NOT NULL,
    execution_id uuid        NOT NULL,
    sequence     bigint      NOT NULL,
    kind         text        NOT NULL CHECK (kind IN ('progress', 'log', 'attempt')),
    body_json    text        NOT NULL,
    create_time  timestamptz NOT NULL,
    PRIMARY KEY (team_id, execution_id, sequence)
);

-- Figures of each tool over the last 7 days. Answers of the cache, and of another's run, are counted apart; what a
-- caller cancelled says nothing of the tool.
CREATE MATERIALIZED VIEW executor.tool_metrics AS
WITH ended AS (
    SELECT team_id, tool_name, status, source, cost_micro_usd, input_tokens, output_tokens, retries, create_time,
           source IN ('cache', 'semantic_cache', 'coalesced') AS is_hit,
           extract(epoch FROM end_time - coalesce(start_time, create_time)) * 1000 AS duration_ms
    FROM executor.execution
    WHERE id >= executor.uuid_floor(now() - interval '7 days') AND end_time IS NOT NULL AND status <> 'cancelled'
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
