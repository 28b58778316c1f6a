//! Gives a part of the trail as the lines of a file that proves itself (`trail::export`). A few hundred records at a time
//! are in memory. What the database has otherwise than it was signed goes into the file as it is, or is left out: whoever
//! verifies the file finds it, and so does not depend on this process. Must never make up a line.

use std::{collections::HashMap, ops::Range};

use ::store::Database;
use chrono::{DateTime, SecondsFormat, Utc};
use futures_util::stream::{self, Stream};
use proto::audit::v1::{Action, Result as Outcome};
use trail::{
    TileId, Tiles,
    export::{Manifest, PayloadLine, Plan, Step, end_line, ended_line, first_line, record_line, tile_line},
};
use types::Caller;
use uuid::Uuid;

use crate::{
    Error, Signer,
    append::Journal,
    payload::{self, Draft, Opener},
    prove::{self, number},
    query::{EARLY, LATE, first_id_of},
    store::{self, RecordRow, Time, Tree},
    subjects::Subjects,
};

/// Bytes of lines after which they are sent.
const ENOUGH: usize = 128 * 1024;
/// Times that every database and every UUIDv7 has.
const YEARS: (i64, i64) = (0, 253_402_300_799);

/// What is asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Asked {
    pub start_time: Option<DateTime<Utc>>,
    pub end_time: Option<DateTime<Utc>>,
    pub headers_only: bool,
}

/// Some lines.
#[derive(Debug)]
pub(crate) struct Part {
    pub lines: Vec<u8>,
    /// Records so far.
    pub records: u64,
    /// Records in all.
    pub total: u64,
}

/// Begins an export, which is an event of the trail itself, and gives its lines.
pub(crate) async fn export(
    database: &Database,
    journal: &Journal,
    signer: &Signer,
    caller: &Caller,
    asked: Asked,
) -> Result<impl Stream<Item = Result<Part, Error>> + Send + use<>, Error> {
    let team = &caller.team;
    let tree = prove::newest(database, team).await?;
    let range = range(database, team, &tree, &asked).await?;
    let manifest = manifest(signer, team, &tree, &range, &asked);
    let size = manifest.size;
    let edge = prove::tiles(database, team, &trail::for_append(size)).await?;
    let verifier_key = signer.verifier_key();
    let note = signer.note(&manifest.text());
    let lines = first_line(&tree.checkpoint, &note, &verifier_key, size, &edge).map_err(Error::broken)?;
    let message = format!("export of the records {} to before {} of {size}", range.start, range.end);
    let told = Draft::own(team, &caller.agent, Action::ReportGenerated, Outcome::Success, message);
    journal.append(vec![told]).await?;
    let export = Export {
        database: database.clone(),
        subjects: journal.subjects.clone(),
        team: team.clone(),
        signed: tree.size,
        plan: Plan::new(range.start, range.end, size),
        headers_only: asked.headers_only,
        part: Part { lines, records: 0, total: range.end - range.start },
        is_done: false,
    };
    Ok(stream::try_unfold(
        export,
        |mut export| async move { Ok(export.next().await?.map(|part| (part, export))) },
    ))
}

/// The indexes of what is asked for: all in between are in the file, too, or it could not be seen that none is missing.
async fn range(database: &Database, team: &str, tree: &Tree, asked: &Asked) -> Result<Range<u64>, Error> {
    let (start, end) = (asked.start_time, asked.end_time);
    if start.zip(end).is_some_and(|(start, end)| start >= end) {
        return Err(Error::invalid("end_time", "must be after start_time"));
    }
    let mut range = 0..number(tree.size);
    if start.is_none() && end.is_none() {
        return Ok(range);
    }
    let [first, last] = [YEARS.0, YEARS.1].map(|at| DateTime::from_timestamp(at, 0).unwrap_or_default());
    let within = |at: DateTime<Utc>| at.clamp(first, last);
    let time = Time {
        start: within(start.unwrap_or(first)),
        end: within(end.unwrap_or(last)),
        ids: (
            start.map_or(Uuid::nil(), |at| first_id_of(within(at) - EARLY)),
            end.map_or(Uuid::max(), |at| first_id_of(within(at) + LATE)),
        ),
    };
    let Some((first, last)) = store::positions_of_time(database.pool()?, team, &time, tree.size).await?
    else {
        return Ok(range.end..range.end);
    };
    if start.is_some() {
        range.start = number(first - 1);
    }
    if end.is_some() {
        range.end = number(last);
    }
    Ok(range)
}

fn manifest(signer: &Signer, team: &str, tree: &Tree, range: &Range<u64>, asked: &Asked) -> Manifest {
    let text = |at: DateTime<Utc>| at.to_rfc3339_opts(SecondsFormat::Micros, true);
    Manifest {
        begin: range.start,
        end: range.end,
        start_time: asked.start_time.map(text).unwrap_or_default(),
        end_time: asked.end_time.map(text).unwrap_or_default(),
        export_time: text(Utc::now()),
        headers_only: asked.headers_only,
        origin: signer.origin(team),
        root: hex::encode(&tree.root),
        size: number(tree.size),
        team_id: team.to_owned(),
    }
}

/// An export under way.
struct Export {
    database: Database,
    subjects: Subjects,
    team: String,
    /// Positions under the checkpoint.
    signed: i64,
    plan: Plan,
    headers_only: bool,
    part: Part,
    is_done: bool,
}

impl Export {
    /// The next lines; `None`: that was all.
    async fn next(&mut self) -> Result<Option<Part>, Error> {
        while !self.is_done && self.part.lines.len() < ENOUGH {
            match self.plan.next() {
                Some(Step::Tile(id)) => self.tile(id).await?,
                Some(Step::Records(range)) => self.records(range).await?,
                None => {
                    end_line(self.part.total, &mut self.part.lines);
                    self.is_done = true;
                }
            }
        }
        let Part { records, total, .. } = self.part;
        let lines = std::mem::take(&mut self.part.lines);
        Ok((!lines.is_empty()).then_some(Part { lines, records, total }))
    }

    async fn tile(&mut self, id: TileId) -> Result<(), Error> {
        let tiles: Tiles = prove::tiles(&self.database, &self.team, &[id]).await?;
        // Without it the records go without proof, and whoever verifies them says so.
        if let Some(hashes) = tiles.get(id) {
            tile_line(id, hashes, &mut self.part.lines);
        } else {
            tracing::error!(
                team = self.team,
                level = id.level,
                index = id.index,
                "a tile of the trail is gone"
            );
        }
        Ok(())
    }

    async fn records(&mut self, range: Range<u64>) -> Result<(), Error> {
        let of = |index: u64| i64::try_from(index).unwrap_or(i64::MAX);
        let (after, until) = (of(range.start), of(range.end));
        let rows =
            store::records_after(self.database.pool()?, &self.team, (after, until), until - after).await?;
        let opener = if self.headers_only { Opener::default() } else { self.subjects.opener(&rows).await? };
        let is_whole = of(rows.len() as u64) == until - after;
        let ended = if is_whole { HashMap::new() } else { self.ended(after + 1, until).await? };
        let mut rows = rows.into_iter().peekable();
        for position in after + 1..=until {
            if let Some(row) = rows.next_if(|row| row.sequence == position) {
                self.record(&row, &opener);
            } else if let Some(event_id) = ended.get(&position) {
                ended_line(number(position - 1), &event_id.to_string(), &mut self.part.lines);
            } else {
                tracing::error!(
                    team = self.team,
                    position,
                    "a record of the trail is gone without its retention having ended"
                );
            }
        }
        self.part.records += range.end - range.start;
        Ok(())
    }

    fn record(&mut self, row: &RecordRow, opener: &Opener) {
        let leaf = payload::header(row).leaf();
        let opened = if self.headers_only { Ok(None) } else { opener.open(row) };
        let line = match &opened {
            Ok(Some((salt, bytes))) => PayloadLine::Kept { bytes, salt },
            Ok(None) if self.headers_only => PayloadLine::LeftOut,
            Ok(None) => PayloadLine::Erased,
            Err(error) => {
                tracing::error!(team = self.team, event_id = %row.id, %error, "a payload of the trail cannot be opened");
                PayloadLine::LeftOut
            }
        };
        record_line(&leaf, line, &mut self.part.lines);
    }

    /// Positions whose retention has ended, and the events that say so.
    async fn ended(&self, first: i64, last: i64) -> Result<HashMap<i64, Uuid>, Error> {
        let pool = self.database.pool()?;
        let mut positions = HashMap::new();
        for row in store::ended_list(pool, &self.team, (first, last)).await? {
            // The file would tell of an end whose event is not in its tree.
            let event = store::record_position(pool, &self.team, row.event_id).await?;
            if event.is_some_and(|position| position > self.signed) {
                let why = "the retention of records ended while they were exported; try again";
                return Err(Error::Unready(why.to_owned()));
            }
            let range = row.first_sequence.max(first)..=row.last_sequence.min(last);
            positions.extend(range.map(|position| (position, row.event_id)));
        }
        Ok(positions)
    }
}
