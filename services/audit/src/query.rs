//! Reads the trail, newest first, page by page. A call looks at records for a bounded time, whatever the filter: a page
//! may be short, or empty, and still have a token. Must never show an agent more than its own.
//!
//! Newest first is by id: ids are UUIDv7, made where the event happened when it did, so that a time is a stretch of ids.
//! The time of an event may lie before that of its id by as long as a call lasts (a retry is told of when the call ends),
//! and after it by as much as clocks differ.

use std::time::{Duration, Instant};

use ::rpc::{Page, PageKey};
use ::store::Database;
use chrono::{DateTime, TimeDelta, Utc};
use types::{Caller, Role};
use uuid::Uuid;

use crate::{
    Error,
    store::{self, Bounds, Filter, RecordRow},
    subjects::Subjects,
};

/// Bytes that all but the payload of an event take, generously.
const FIELD_BYTES: usize = 1_024;
/// How long after its event an id may have been made: longer than any call lasts.
pub(crate) const LATE: TimeDelta = TimeDelta::hours(1);
/// How far an event's time may lie after its id: by clocks that differ.
pub(crate) const EARLY: TimeDelta = TimeDelta::minutes(5);
/// How long a call looks; one look more may begin just before.
const PATIENCE: Duration = Duration::from_millis(15);
/// Records of the first look beyond a page, of which the later ones have four times as many each.
const FIRST_LOOK: i64 = 200;
/// Most records of one look: a few milliseconds.
const LONGEST_LOOK: i64 = 2_000;

/// One page of the trail.
#[derive(Debug)]
pub(crate) struct Found {
    pub rows: Vec<RecordRow>,
    pub next_page_token: String,
    /// Where the filter reaches beyond the retention: from when on everything is there.
    pub available_start_time: Option<DateTime<Utc>>,
}

/// One page of records and the token of the next.
pub(crate) async fn query(
    database: &Database,
    pages: &PageKey,
    subjects: &Subjects,
    caller: &Caller,
    mut filter: Filter,
    page: (i32, &str),
) -> Result<Found, Error> {
    narrow_to_own(caller, &mut filter)?;
    let team = caller.team.as_str();
    let page = pages.page(page.0, page.1, format!("{team}|{filter:?}"))?;
    let available_start_time = available_since(database, team, &filter).await?;
    let (mut rows, end) = if name_subject(subjects, team, &mut filter).await? {
        look(database, team, &filter, &page).await?
    } else {
        (Vec::new(), None)
    };
    let size = |row: &RecordRow| row.payload.as_ref().map_or(0, Vec::len) + FIELD_BYTES;
    let mut next_page_token = pages.next_sized(&page, &mut rows, size, |row| row.id.to_string());
    if let (true, Some(end)) = (next_page_token.is_empty(), end) {
        next_page_token = pages.next_at(&page, &end.to_string());
    }
    Ok(Found { rows, next_page_token, available_start_time })
}

/// Puts the pseudonym of the user into the filter; `false`: nothing can fit, since the trail knows no such user.
pub(crate) async fn name_subject(
    subjects: &Subjects,
    team: &str,
    filter: &mut Filter,
) -> Result<bool, Error> {
    let Some(user) = filter.user.take() else { return Ok(true) };
    match subjects.find(team, &user).await? {
        Some(subject) if filter.subject_id.is_none_or(|asked| asked == subject) => {
            filter.subject_id = Some(subject);
            Ok(true)
        }
        _ => Ok(false),
    }
}

/// Looks until a page is full, nothing is left, or it took long enough; then it says where to go on.
async fn look(
    database: &Database,
    team: &str,
    filter: &Filter,
    page: &Page,
) -> Result<(Vec<RecordRow>, Option<Uuid>), Error> {
    let (pool, begun, wanted) = (database.pool()?, Instant::now(), page.size + 1);
    let (lowest, highest) = stretch(filter);
    let mut before = before(page)?.unwrap_or(highest).min(highest);
    // Months to come have tables and, but for clocks that are wrong, no records: they are looked at with this one.
    let mut months = store::record_months(pool).await?;
    months.retain(|month| *month <= first_id_of(Utc::now()));
    let mut reading = store::begin_reading(pool).await?;
    let (mut rows, mut most) = (Vec::<RecordRow>::new(), wanted.max(FIRST_LOOK));
    while before > lowest {
        let from = months.iter().copied().find(|month| *month < before).unwrap_or(Uuid::nil()).max(lowest);
        let give = wanted - i64::try_from(rows.len()).unwrap_or(wanted);
        let looked =
            store::records_look(&mut reading, team, filter, Bounds { from, before, look: most, give })
                .await?;
        if !looked.ids.is_empty() {
            rows.extend(store::records_get(&mut reading, team, &looked.ids, (from, before)).await?);
        }
        let is_full = i64::try_from(looked.ids.len()).unwrap_or(give) >= give;
        before = if looked.count < most { from } else { looked.last.unwrap_or(from) };
        if is_full {
            return Ok((rows, None));
        }
        if begun.elapsed() >= PATIENCE {
            break;
        }
        most = (most * 4).min(LONGEST_LOOK.max(wanted));
    }
    Ok((rows, (before > lowest).then_some(before)))
}

/// The ids that can fit: the lowest, and one behind the highest.
fn stretch(filter: &Filter) -> (Uuid, Uuid) {
    // No event of an execution is older than its execution, whose id is its time, too.
    let of_execution = filter.execution_id.and_then(|id| id.get_timestamp()).and_then(|at| {
        let (seconds, nanos) = at.to_unix();
        DateTime::from_timestamp(i64::try_from(seconds).ok()?, nanos)
    });
    let start = filter.start_time.max(of_execution);
    let floor = start.and_then(|at| at.checked_sub_signed(EARLY)).map_or(Uuid::nil(), first_id_of);
    let end = filter.end_time.and_then(|at| at.checked_add_signed(LATE)).map_or(Uuid::max(), first_id_of);
    (floor, end)
}

/// The smallest UUIDv7 of a time: its first 48 bits are milliseconds since 1970 (RFC 9562, section 5.7).
pub(crate) fn first_id_of(at: DateTime<Utc>) -> Uuid {
    let milliseconds = u64::try_from(at.timestamp_millis()).unwrap_or(0);
    Uuid::from_u64_pair(milliseconds << 16, 0)
}

/// From when on everything that the filter asks for is kept, where it reaches further back.
async fn available_since(
    database: &Database,
    team: &str,
    filter: &Filter,
) -> Result<Option<DateTime<Utc>>, Error> {
    let kept = store::kept_since_list(database.pool()?, team).await?;
    let is_asked =
        |classification: &str| filter.classification.as_deref().is_none_or(|asked| asked == classification);
    let since = kept.into_iter().filter(|(of, _)| is_asked(of)).map(|(_, since)| since).max();
    Ok(since.filter(|since| filter.start_time.is_none_or(|start| start < *since)))
}

/// An agent reads its own events; an auditor or above reads all of the team.
pub(crate) fn narrow_to_own(caller: &Caller, filter: &mut Filter) -> Result<(), Error> {
    if caller.role >= Role::Auditor {
        return Ok(());
    }
    match filter.agent_id.get_or_insert_with(|| caller.agent.clone()) {
        agent if *agent == caller.agent => Ok(()),
        _ => Err(Error::invalid("agent_id", "only an auditor may read the trail of another agent")),
    }
}

fn before(page: &Page) -> Result<Option<Uuid>, Error> {
    let read = |cursor: &String| cursor.parse().map_err(|_| Error::invalid("page_token", "holds no id"));
    page.cursor.as_ref().map(read).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_sees_its_own_events_and_an_auditor_all() {
        let mut caller = Caller { agent: "a".into(), service: None, ..Caller::service("x") };
        let mut filter = Filter::default();
        narrow_to_own(&caller, &mut filter).unwrap();
        assert_eq!(filter.agent_id.as_deref(), Some("a"));
        let mut other = Filter { agent_id: Some("b".into()), ..Filter::default() };
        assert!(narrow_to_own(&caller, &mut other).is_err());
        caller.role = Role::Auditor;
        narrow_to_own(&caller, &mut other).unwrap();
        assert_eq!(other.agent_id.as_deref(), Some("b"));
    }

    #[test]
    fn a_time_is_a_stretch_of_ids_with_room_on_both_sides() {
        let at: DateTime<Utc> = "2026-11-23T12:00:00Z".parse().unwrap();
        let filter = Filter { start_time: Some(at), end_time: Some(at), ..Filter::default() };
        let (from, before) = stretch(&filter);
        assert_eq!((from, before), (first_id_of(at - EARLY), first_id_of(at + LATE)));
        assert_eq!(stretch(&Filter::default()), (Uuid::nil(), Uuid::max()));
        let execution = types::new_id();
        let of_execution = stretch(&Filter { execution_id: Some(execution), ..Filter::default() });
        assert!(of_execution.0 < execution && of_execution.0 > first_id_of(Utc::now() - LATE));
    }
}
