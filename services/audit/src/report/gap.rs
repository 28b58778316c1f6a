//! What keeps a report from being made: records that are not signed yet, positions without a record whose retention has
//! not ended, and executions that ended without the trail saying so. Looks an hour further on both sides of the period,
//! since what is missing there may have happened in it.

use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};

use ::store::Database;
use chrono::{DateTime, TimeDelta, Utc};

use super::Asked;
use crate::{
    Error,
    prove::{self, number},
    query::{EARLY, LATE, first_id_of},
    store::{self, Time, Tree},
};

/// How long it is waited for the checkpoint.
const PATIENCE: Duration = Duration::from_secs(3);
/// How often it looks.
const POLL: Duration = Duration::from_millis(50);
/// How far a record may stand from its time.
pub(super) const MARGIN: TimeDelta = LATE;
/// Positions of one look.
const CHUNK: i64 = 65_536;
/// Gaps that are told one by one.
const TOLD: usize = 10;

/// The newest tree, once everything before a time is in it.
pub(super) async fn signed(database: &Database, team: &str, end: DateTime<Utc>) -> Result<Tree, Error> {
    let began = Instant::now();
    loop {
        let found = prove::newest(database, team).await;
        let tree = match found {
            Ok(tree) if !store::is_unsigned_before(database.pool()?, team, tree.size, end).await? => {
                return Ok(tree);
            }
            Ok(_) | Err(Error::NotSignedYet(_)) => {
                Error::NotSignedYet("events of the period are not under a signed checkpoint yet".to_owned())
            }
            Err(other) => return Err(other),
        };
        if began.elapsed() >= PATIENCE {
            return Err(tree);
        }
        tokio::time::sleep(POLL).await;
    }
}

/// The indexes from the first leaf of the period to behind the last.
pub(super) async fn leaves(
    database: &Database,
    team: &str,
    tree: &Tree,
    asked: &Asked,
) -> Result<(u64, u64), Error> {
    let time = time(asked.start, asked.end);
    let found = store::positions_of_time(database.pool()?, team, &time, tree.size).await?;
    let size = number(tree.size);
    Ok(found.map_or((size, size), |(first, last)| (number(first - 1), number(last))))
}

fn time(start: DateTime<Utc>, end: DateTime<Utc>) -> Time {
    Time { start, end, ids: (first_id_of(start - EARLY), first_id_of(end + LATE)) }
}

/// Refuses what would have a gap.
pub(super) async fn refuse(database: &Database, team: &str, tree: &Tree, asked: &Asked) -> Result<(), Error> {
    let pool = database.pool()?;
    let wide = time((asked.start - MARGIN).max(DateTime::UNIX_EPOCH), asked.end + MARGIN);
    let found = store::positions_of_time(pool, team, &wide, tree.size).await?;
    // Where nothing is left of the time, what is missing may be all of it.
    let (first, last) = found.map_or((1, tree.size), |(first, last)| (first - 1, last + 1));
    let missing = missing(database, team, (first.max(1) - 1, last.min(tree.size))).await?;
    if !missing.is_empty() {
        return Err(Error::Gap(format!("the trail has no record at {}", told(&missing))));
    }
    let ids = (first_id_of(asked.start - MARGIN), first_id_of(asked.end));
    let findings = store::outcomes_missing(pool, team, ids, 100).await?;
    if findings.is_empty() {
        return Ok(());
    }
    let ids: Vec<String> = findings.iter().take(TOLD).map(|found| found.execution_id.to_string()).collect();
    let more = if findings.len() > TOLD { " and others" } else { "" };
    Err(Error::Gap(format!("the trail does not say how executions ended: {}{more}", ids.join(", "))))
}

/// Ranges of positions that are not there though their retention has not ended; at most a few.
async fn missing(
    database: &Database,
    team: &str,
    (after, until): (i64, i64),
) -> Result<Vec<(i64, i64)>, Error> {
    let (pool, mut ranges) = (database.pool()?, Vec::<(i64, i64)>::new());
    let mut from = after;
    while from < until && ranges.len() <= TOLD {
        let to = (from + CHUNK).min(until);
        let there = store::positions_there(pool, team, (from, to)).await?;
        if i64::try_from(there.len()).unwrap_or(0) != to - from {
            let ended = store::ended_list(pool, team, (from + 1, to)).await?;
            let (mut there, mut ended) = (there.into_iter().peekable(), ended.into_iter().peekable());
            for position in from + 1..=to {
                while ended.next_if(|range| range.last_sequence < position).is_some() {}
                let has_ended = ended.peek().is_some_and(|range| range.first_sequence <= position);
                if there.next_if_eq(&position).is_some() || has_ended {
                    continue;
                }
                match ranges.last_mut() {
                    Some(range) if range.1 == position - 1 => range.1 = position,
                    _ => ranges.push((position, position)),
                }
            }
        }
        from = to;
    }
    Ok(ranges)
}

fn told(ranges: &[(i64, i64)]) -> String {
    let mut text = "positions ".to_owned();
    for (at, (first, last)) in ranges.iter().take(TOLD).enumerate() {
        let separator = if at == 0 { "" } else { ", " };
        let _ = if first == last {
            write!(text, "{separator}{first}")
        } else {
            write!(text, "{separator}{first} to {last}")
        };
    }
    if ranges.len() > TOLD {
        text += " and others";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_told_by_its_positions() {
        assert_eq!(told(&[(7, 7), (9, 12)]), "positions 7, 9 to 12");
        let many: Vec<_> = (0..12).map(|each| (each * 2, each * 2)).collect();
        assert!(told(&many).ends_with(", 18 and others"), "{}", told(&many));
    }
}
