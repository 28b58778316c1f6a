//! Whether the trail is as it should be: every process looks into the database, where the one that sequences tells of
//! itself, of the second places and of teams that cannot be signed for.

use std::time::Duration;

use ::store::Database;
use chrono::{DateTime, TimeDelta, Utc};
use tokio_util::sync::CancellationToken;

use crate::{
    Error,
    checkpoints::{Checkpoints, Health},
    config::OnFailure,
    store::{self, PlaceRow, Pulse},
};

/// How often a process looks.
const LOOK: Duration = Duration::from_secs(1);
/// After this time without a sign of life nobody sequences.
const SILENT: TimeDelta = TimeDelta::seconds(10);
/// After this time without a look nobody knows how a place is.
const UNSEEN: TimeDelta = TimeDelta::seconds(15);

/// How the trail of a team is.
#[derive(Debug)]
pub(crate) struct TrailHealth {
    pub tree_size: i64,
    pub unsigned: i64,
    pub sign_time: Option<DateTime<Utc>>,
    /// Each with why it does not have what it should; empty: it does.
    pub places: Vec<PlaceHealth>,
    /// One sentence each.
    pub faults: Vec<String>,
}

/// How a second place is.
#[derive(Debug)]
pub(crate) struct PlaceHealth {
    pub place: String,
    pub copied_size: i64,
    pub copy_time: Option<DateTime<Utc>>,
    pub failure: String,
}

/// Looks until told to stop, for health and for whether events are taken.
pub(crate) async fn follow(checkpoints: Checkpoints, database: Database, stop: CancellationToken) {
    // A place has its time to be reached when everything starts.
    let began = tokio::time::Instant::now();
    loop {
        let health = match look(&checkpoints, &database, TimeDelta::from_std(began.elapsed()).ok()).await {
            Ok(health) => health,
            Err(_) => Health { is_well: false, is_blocked: checkpoints.is_blocked() },
        };
        if health.is_blocked && !checkpoints.is_blocked() {
            tracing::error!("no checkpoint has reached a second place for too long; events are refused");
        }
        checkpoints.set_health(health);
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = stop.cancelled() => return,
        }
    }
}

async fn look(
    checkpoints: &Checkpoints,
    database: &Database,
    up: Option<TimeDelta>,
) -> Result<Health, Error> {
    let config = checkpoints.config();
    let pulse = store::pulse_get(database.pool()?).await?;
    let rows = store::place_list(database.pool()?, "", &config.places).await?;
    let up = up.unwrap_or(TimeDelta::MAX);
    let is_starting = up < SILENT;
    let is_fine = |place: &String| {
        let row = rows.iter().find(|row| row.place == *place);
        failure(row, &pulse).is_none() || (is_starting && row.is_none_or(|row| row.failure.is_empty()))
    };
    let is_signing = is_starting || pulse.now - pulse.beat_time < SILENT;
    let is_well = is_signing && pulse.halted == 0 && config.places.iter().all(is_fine);
    let patience = TimeDelta::from_std(config.block_after()).unwrap_or(TimeDelta::MAX);
    let is_late = |place: &String| {
        let ok = rows.iter().find(|row| row.place == *place).and_then(|row| row.ok_time);
        up >= patience && ok.is_none_or(|ok| pulse.now - ok >= patience)
    };
    let blocks = config.on_failure == OnFailure::Block && !config.places.is_empty();
    Ok(Health { is_well, is_blocked: blocks && config.places.iter().all(is_late) })
}

/// Why a place does not have what it should.
fn failure(row: Option<&PlaceRow>, pulse: &Pulse) -> Option<String> {
    let Some(row) = row else { return Some("was not reached yet".to_owned()) };
    if !row.failure.is_empty() {
        return Some(row.failure.clone());
    }
    let seen = pulse.now - row.check_time;
    (seen >= UNSEEN).then(|| format!("was not looked at for {} s", seen.num_seconds()))
}

/// How the trail of a team is.
pub(crate) async fn trail_health(
    checkpoints: &Checkpoints,
    database: &Database,
    team: &str,
) -> Result<TrailHealth, Error> {
    let (pool, config) = (database.pool()?, checkpoints.config());
    let pulse = store::pulse_get(pool).await?;
    let tree = store::tree_get(pool, team).await?;
    let head = store::head_get(pool, team).await?;
    let rows = store::place_list(pool, team, &config.places).await?;
    let mut faults = Vec::new();
    let silent = pulse.now - pulse.beat_time;
    if silent >= SILENT {
        faults.push(format!("no process has sequenced the trail for {} s", silent.num_seconds()));
    }
    let halt = store::halt_get(pool, team).await?;
    faults.extend(halt.map(|reason| format!("Nothing is signed for this team: {reason}")));
    let places: Vec<PlaceHealth> = config
        .places
        .iter()
        .map(|place| {
            let row = rows.iter().find(|row| row.place == *place);
            PlaceHealth {
                place: place.clone(),
                copied_size: row.and_then(|row| row.copied_size).unwrap_or_default(),
                copy_time: row.and_then(|row| row.copy_time),
                failure: failure(row, &pulse).unwrap_or_default(),
            }
        })
        .collect();
    let failing = places.iter().filter(|place| !place.failure.is_empty());
    faults.extend(
        failing.map(|place| format!("Checkpoints do not reach {}: it {}", place.place, place.failure)),
    );
    if checkpoints.is_blocked() {
        let after = config.block_after().as_secs();
        faults.push(format!("Events are refused: no checkpoint has reached a second place for {after} s"));
    }
    let tree_size = tree.as_ref().map_or(0, |tree| tree.size);
    Ok(TrailHealth {
        tree_size,
        unsigned: (head - tree_size).max(0),
        sign_time: tree.map(|tree| tree.sign_time),
        places,
        faults,
    })
}
