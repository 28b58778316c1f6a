//! Sends what happens to an execution until it has ended, on any replica. Everything is read from the database,
//! so a watcher may come late, come back, or be somewhere else than the run. Never queues more than one page for
//! a slow receiver, and never holds up a run.
//!
//! Events are in the order of their sequence numbers. Those of a run under lease epoch `e` are `e * 1,000,000 + n`;
//! a status has the number that fits between them, told by status and epoch alone: running before the first
//! event of its run, queued again in the middle, the end last. A status that has passed is told as far as the
//! row still shows it: where a process died, who comes late hears of the last run only.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use ::rpc::{Call, Full, Share};
use chrono::{DateTime, Utc};
use futures_util::Stream;
use tokio::time::Instant;
use uuid::Uuid;

use crate::{
    Error, Executor,
    outcome::{Attempt, Status, ToolError, ToolErrorCode},
    progress::{EPOCH, Line, Progress},
    query,
    store::{self, Execution, ProgressEvent},
};

/// Events read at once.
const PAGE: i64 = 100;
/// How often the database is looked at.
const POLL: Duration = Duration::from_millis(200);
/// The same for an execution that waits in the queue, after a while without news.
const SLOW_POLL: Duration = Duration::from_secs(1);
/// How long a watch outlives a database that is away.
const OUTAGE: Duration = Duration::from_secs(20);

/// One thing that happened.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Event {
    pub sequence: i64,
    pub time: DateTime<Utc>,
    pub what: What,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum What {
    Progress(Progress),
    Log(Line),
    /// It failed, and another one follows.
    Attempt(Attempt),
    /// The execution as it stood then; the last one whole.
    Status(Box<Execution>),
    /// Nothing, for a while.
    Heartbeat,
}

/// What happens to an execution that the caller may see, after this sequence number; 0: from the beginning. The
/// stream ends with the execution. One that is cut off by an error, as after the longest time that a stream may
/// last, can be resumed after its last event.
pub(crate) async fn watch(
    executor: &Arc<Executor>,
    call: &Call,
    id: &str,
    after: i64,
) -> Result<impl Stream<Item = Result<Event, Error>> + Send + 'static, Error> {
    if after < 0 {
        return Err(Error::invalid("after_sequence", "must not be negative"));
    }
    let place = executor.watches.take(call.caller.team.clone(), 1).map_err(too_many)?;
    let execution = query::get(&executor.database, &call.caller, id).await?;
    let watch = Watch {
        _place: place,
        begun: Instant::now(),
        pause: POLL,
        executor: Arc::clone(executor),
        execution,
        cursor: after,
        pending: VecDeque::new(),
        is_over: false,
        last: Instant::now(),
        away_since: None,
    };
    Ok(futures_util::stream::unfold(Some(watch), |watch| async {
        let mut watch = watch?;
        match watch.next().await {
            Ok(event) => event.map(|event| (Ok(event), Some(watch))),
            Err(error) => Some((Err(error), None)),
        }
    }))
}

struct Watch {
    /// Among those of its team: each asks the database several times a second.
    _place: Share<String>,
    begun: Instant,
    /// How long it waits before the next look.
    pause: Duration,
    executor: Arc<Executor>,
    /// As it was last read.
    execution: Execution,
    /// Everything up to here has been read.
    cursor: i64,
    pending: VecDeque<Event>,
    /// Whether nothing follows what is pending.
    is_over: bool,
    /// When something was last sent.
    last: Instant,
    /// Since when the database cannot be read.
    away_since: Option<Instant>,
}

impl Watch {
    /// The next event; `None` after the last.
    async fn next(&mut self) -> Result<Option<Event>, Error> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                self.last = Instant::now();
                self.pause = POLL;
                return Ok(Some(event));
            }
            if self.is_over {
                return Ok(None);
            }
            let longest = self.executor.config.watch_timeout();
            if self.begun.elapsed() >= longest {
                return Err(Error::WatchTooLong { longest, after: self.cursor });
            }
            // Asked first: what ends here after this is seen by the look that follows.
            let goes_on = self.goes_on();
            let is_there = self.look().await?;
            if !self.pending.is_empty() || self.is_over {
                continue;
            }
            let heartbeat = Duration::from_secs(self.executor.config.watch_heartbeat_s);
            if is_there && self.last.elapsed() >= heartbeat {
                self.last = Instant::now();
                return Ok(Some(Event { sequence: self.cursor, time: Utc::now(), what: What::Heartbeat }));
            }
            if !goes_on {
                return Err(Error::ShuttingDown);
            }
            self.wait().await;
        }
    }

    /// Reads; `false` while the database is away, an error when it is for too long.
    async fn look(&mut self) -> Result<bool, Error> {
        match self.read().await {
            Ok(()) => {
                self.away_since = None;
                Ok(true)
            }
            Err(error @ Error::Store(::store::Error::Unavailable(_))) => {
                let since = *self.away_since.get_or_insert_with(Instant::now);
                if since.elapsed() < OUTAGE { Ok(false) } else { Err(error) }
            }
            Err(error) => Err(error),
        }
    }

    /// Reads the next page. The status is read first: what came before an end is then in the rows.
    async fn read(&mut self) -> Result<(), Error> {
        let (pool, id) = (self.executor.database.pool()?, self.execution.id);
        let team = self.execution.team_id.clone();
        let missing = || Error::NotFound(id.to_string());
        let now = store::execution_standing(pool, &team, id).await?.ok_or_else(missing)?;
        if now != (self.execution.status.clone(), self.execution.lease_epoch) {
            self.execution = store::execution_get(pool, &team, id).await?.ok_or_else(missing)?;
        }
        let rows = store::progress_list(pool, &team, id, self.cursor, PAGE).await?;
        let is_last = i64::try_from(rows.len()).unwrap_or(i64::MAX) < PAGE;
        let last = rows.last().map_or(self.cursor, |row| row.sequence);
        let until = if is_last { i64::MAX } else { last };
        let (after, told) = (self.cursor, statuses(&self.execution, Utc::now()));
        let told = told.into_iter().filter(|event| event.sequence > after && event.sequence <= until);
        let mut events: Vec<Event> = rows.iter().filter_map(event).chain(told).collect();
        events.sort_by_key(|event| event.sequence);
        self.cursor = events.last().map_or(last, |event| event.sequence.max(last));
        self.pending.extend(events);
        self.is_over = is_last && Status::is_terminal(&self.execution.status);
        Ok(())
    }

    /// Until something may have happened.
    async fn wait(&mut self) {
        tokio::select! {
            () = self.executor.running.ended(self.execution.id) => {}
            () = tokio::time::sleep(self.pause) => {}
        }
        let waits = [Status::Queued, Status::WaitingForApproval];
        self.pause =
            next_pause(self.pause, waits.iter().any(|status| status.as_str() == self.execution.status));
    }

    /// A process that stops sends the end of what it still runs; the rest can be watched elsewhere.
    fn goes_on(&self) -> bool {
        !self.executor.runs.is_closed() || self.executor.running.holds(self.execution.id)
    }
}

fn too_many(full: Full) -> Error {
    match full {
        Full::One(most) => Error::TooManyWatches { whose: "this team", most },
        Full::All(most) => Error::TooManyWatches { whose: "this process", most },
    }
}

/// What waits may do so for days, and is looked at less and less often.
fn next_pause(pause: Duration, waits: bool) -> Duration {
    if waits { (pause * 2).min(SLOW_POLL) } else { POLL }
}

/// The statuses that an execution has had, as far as its row shows them, in their order.
fn statuses(execution: &Execution, now: DateTime<Utc>) -> Vec<Event> {
    let epoch = i64::from(execution.lease_epoch) * EPOCH;
    let told = |sequence, time, execution| Event { sequence, time, what: What::Status(Box::new(execution)) };
    let begun = execution.start_time.unwrap_or(execution.create_time);
    let mut events = Vec::new();
    if execution.access_request_id.is_some() {
        events.push(told(EPOCH / 4, execution.create_time, as_waiting(execution)));
    }
    // What waited for an approval and was not allowed never was in the queue; when it came there is not on record.
    if execution.asynchronous {
        match (execution.access_request_id, execution.decision_id) {
            (None, _) => events.push(told(EPOCH / 2, execution.create_time, as_queued(execution))),
            (Some(_), Some(_)) => {
                let at = execution.start_time.unwrap_or(now);
                events.push(told(EPOCH / 2, at, as_queued(execution)));
            }
            (Some(_), None) => {}
        }
    }
    if execution.status == Status::WaitingForApproval.as_str() {
        return events;
    }
    if execution.status == Status::Queued.as_str() {
        if epoch > 0 {
            events.push(told(epoch + EPOCH / 2, now, execution.clone()));
        }
    } else if execution.status == Status::Running.as_str() {
        events.push(told(epoch, begun, execution.clone()));
    } else {
        if execution.start_time.is_some() {
            events.push(told(run_epoch(execution) * EPOCH, begun, as_running(execution)));
        }
        let ended = execution.end_time.unwrap_or(now);
        events.push(told(epoch + EPOCH - 1, ended, execution.clone()));
    }
    events
}

/// The lease epoch under which an ended execution ran: whoever closed it for a dead process took the next.
fn run_epoch(execution: &Execution) -> i64 {
    let error = serde_json::from_str::<ToolError>(&execution.error_json);
    let closed_by_another = error.is_ok_and(|error| error.code == ToolErrorCode::OwnerDied);
    i64::from(execution.lease_epoch) - i64::from(closed_by_another)
}

/// The execution before it ended.
fn as_running(execution: &Execution) -> Execution {
    Execution {
        status: Status::Running.as_str().to_owned(),
        result_json: String::new(),
        result_digest: String::new(),
        error_json: String::new(),
        cost_micro_usd: 0,
        end_time: None,
        attempts_json: String::new(),
        retries: 0,
        source: String::new(),
        cache_age_ms: 0,
        warnings_json: String::new(),
        input_tokens: 0,
        output_tokens: 0,
        ..execution.clone()
    }
}

/// The execution before it began.
fn as_queued(execution: &Execution) -> Execution {
    Execution {
        status: Status::Queued.as_str().to_owned(),
        owner: Uuid::nil(),
        start_time: None,
        deliveries: 0,
        ..as_running(execution)
    }
}

/// The execution before it was approved.
fn as_waiting(execution: &Execution) -> Execution {
    Execution {
        status: Status::WaitingForApproval.as_str().to_owned(),
        decision_id: None,
        reserved: false,
        ..as_queued(execution)
    }
}

/// What a row tells; `None` for one of a kind or a form that this version does not know.
fn event(row: &ProgressEvent) -> Option<Event> {
    let what = match row.kind.as_str() {
        "progress" => serde_json::from_str(&row.body_json).map(What::Progress),
        "log" => serde_json::from_str(&row.body_json).map(What::Log),
        "attempt" => serde_json::from_str(&row.body_json).map(What::Attempt),
        _ => return None,
    };
    Some(Event { sequence: row.sequence, time: row.create_time, what: what.ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(execution: &Execution) -> Vec<(i64, String)> {
        let events = statuses(execution, Utc::now());
        events
            .into_iter()
            .map(|event| match event.what {
                What::Status(execution) => (event.sequence, execution.status),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    fn execution(status: &str, lease_epoch: i32, asynchronous: bool) -> Execution {
        let start_time = (status != "queued").then(Utc::now);
        Execution { status: status.into(), lease_epoch, asynchronous, start_time, ..Execution::default() }
    }

    #[test]
    fn every_status_has_its_number_whoever_looks_and_when() {
        let expected = [(500_000, "queued"), (1_000_000, "running"), (1_999_999, "succeeded")];
        let expected = expected.map(|(sequence, status)| (sequence, status.to_owned()));
        let at = |status, epoch| told(&execution(status, epoch, true));
        assert_eq!(at("queued", 0), expected[..1]);
        assert_eq!(at("running", 1), expected[..2]);
        assert_eq!(at("succeeded", 1), expected);
        assert_eq!(told(&execution("succeeded", 1, false)), expected[1..]);
    }

    #[test]
    fn numbers_rise_through_every_change_of_hands() {
        let mut last = 0;
        // Run, put back, run again, taken from a dead process, run and closed.
        for (status, epoch) in
            [("queued", 0), ("running", 1), ("queued", 1), ("running", 2), ("queued", 3), ("running", 4)]
        {
            let (sequence, told) = told(&execution(status, epoch, true)).pop().unwrap();
            assert!(told == status && sequence > last, "{status} {epoch}: {sequence}");
            last = sequence;
        }
        let error = ToolError::new(ToolErrorCode::OwnerDied, "gone");
        let error_json = serde_json::to_string(&error).unwrap();
        let closed = Execution { error_json, ..execution("dead_letter", 5, true) };
        let told = told(&closed);
        // The run that died is not told a second time.
        assert_eq!(told[1], (last, "running".to_owned()));
        assert_eq!(told[2], (5_999_999, "dead_letter".to_owned()));
    }

    #[test]
    fn what_never_began_is_not_said_to_have_run() {
        let cancelled = Execution { start_time: None, ..execution("cancelled", 0, true) };
        let expected = [(500_000, "queued".to_owned()), (999_999, "cancelled".to_owned())];
        assert_eq!(told(&cancelled), expected);
    }

    #[test]
    fn what_waited_for_an_approval_says_so_and_was_queued_only_if_it_was_allowed() {
        let access_request_id = Some(Uuid::nil());
        let waiting =
            Execution { access_request_id, start_time: None, ..execution("waiting_for_approval", 0, true) };
        let waited = (250_000, "waiting_for_approval".to_owned());
        assert_eq!(told(&waiting), std::slice::from_ref(&waited));
        let denied = Execution { status: "failed".into(), ..waiting };
        assert_eq!(told(&denied), [waited.clone(), (999_999, "failed".to_owned())]);
        let decision_id = access_request_id;
        let approved = Execution { decision_id, access_request_id, ..execution("running", 1, true) };
        let expected = [waited, (500_000, "queued".to_owned()), (1_000_000, "running".to_owned())];
        assert_eq!(told(&approved), expected);
    }

    #[test]
    fn what_waits_is_looked_at_less_often_until_it_runs() {
        let looks: Vec<_> = std::iter::successors(Some(POLL), |pause| Some(next_pause(*pause, true)))
            .take(5)
            .map(|pause| pause.as_millis())
            .collect();
        assert_eq!(looks, [200, 400, 800, 1_000, 1_000]);
        assert_eq!(next_pause(SLOW_POLL, false), POLL);
    }

    #[test]
    fn a_status_that_has_passed_knows_nothing_of_the_end() {
        let ended = Execution {
            result_json: "{}".into(),
            end_time: Some(Utc::now()),
            cost_micro_usd: 7,
            ..execution("succeeded", 1, true)
        };
        for passed in [as_running(&ended), as_queued(&ended)] {
            assert_eq!((passed.result_json.as_str(), passed.end_time, passed.cost_micro_usd), ("", None, 0));
        }
    }
}
