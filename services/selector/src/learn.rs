//! Learning from what became of executions, and from what is said of selections: what is known of each tool, by team,
//! agent and category of task.
//!
//! `record.rs` takes outcomes and `feedback.rs` feedback; `ledger.rs` writes outcomes for many requests in one
//! transaction, by what `write.rs` makes of them. `counts.rs` fades and forgets, `drift.rs` sees turns, `pool.rs` puts
//! the agents together, `centroid.rs` the tasks that went well. `memory.rs` is the copy that selections ask, `standing.rs`
//! what they ask it; `follow.rs` keeps it up. `watch.rs` raises alarms, `trend.rs` compares halves by `statistics.rs`
//! for `lately.rs`.
//!
//! Nothing of one team is ever seen by another, no agent's flood drowns what the others know, and no text of a task is
//! kept.

mod blame;
mod centroid;
mod counts;
mod drift;
mod effectiveness;
mod feedback;
mod follow;
mod kind;
mod lately;
mod ledger;
mod memory;
mod pool;
mod recommend;
mod record;
mod standing;
mod statistics;
mod trend;
mod watch;
mod write;

pub(crate) use self::{
    blame::{Says, counts as counts_against, says},
    centroid::{Centroid, Mean},
    counts::Counts,
    drift::Drift,
    effectiveness::{Effectiveness, OfCategory, Wanted as WantedEffectiveness, effectiveness},
    feedback::{Said, give},
    follow::{follow, start},
    ledger::{Desk, Ledger},
    memory::{Alarm, AlarmRow, CentroidRow, Changes, Learned, RecordRow, TeamLearned, ToolKey, ToolLearned},
    recommend::{Recommendation, recommend},
    record::record,
    standing::{Standing, View, standings},
    trend::{BUCKETS, Direction, Hour, Trend, WINDOW_DAYS, bucket},
    watch::Watch,
    write::RecordKey,
};

#[cfg(test)]
mod tests;
