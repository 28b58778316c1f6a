//! Follows the trail. One task of the process looks for news, for all that watch: how far each watched team's trail goes,
//! and what came since, once. A watch that begins further back, or was too slow, reads for itself until it has caught up.
//! Must never skip a record, nor queue more than some batches for a slow receiver.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ::rpc::{Full, Share, Shares};
use ::store::Database;
use futures_util::Stream;
use tokio::{
    sync::{Notify, broadcast},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    Error, query,
    store::{self, Filter, RecordRow},
    subjects::Subjects,
};

/// How often it is looked for news, while anybody watches.
const POLL: Duration = Duration::from_millis(200);
/// Most records read at once.
const PAGE: i64 = 500;
/// Batches that a slow watch may be behind before it reads for itself.
const BEHIND: usize = 32;
/// How long a watch outlives a database that is away.
const OUTAGE: Duration = Duration::from_secs(20);

/// How watches run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub heartbeat: Duration,
    pub longest: Duration,
    /// Watches of the process, and of one team.
    pub most: usize,
    pub most_of_team: usize,
}

/// The watches of this process. Clones share them.
#[derive(Clone)]
#[allow(missing_debug_implementations, reason = "holds keys")]
pub(crate) struct Watches(Arc<Shared>);

struct Shared {
    database: Database,
    subjects: Subjects,
    limits: Limits,
    stop: CancellationToken,
    places: Shares<String>,
    tails: Mutex<HashMap<String, Tail>>,
    /// That somebody began to watch.
    begun: Notify,
}

/// The end of a team's trail, as far as it was read for those that watch: no record can come before it any more.
#[derive(Debug)]
struct Tail {
    position: i64,
    news: broadcast::Sender<Arc<Vec<RecordRow>>>,
}

type News = broadcast::Receiver<Arc<Vec<RecordRow>>>;

/// What came: records that fit, oldest first, none in a sign of life; and how far the trail was looked through.
#[derive(Debug)]
pub(crate) struct Step {
    pub rows: Vec<RecordRow>,
    pub position: i64,
}

impl Watches {
    /// No watch yet.
    pub(crate) fn new(
        database: Database,
        subjects: Subjects,
        limits: Limits,
        stop: CancellationToken,
    ) -> Self {
        let places = Shares::new(limits.most, limits.most_of_team);
        let (tails, begun) = (Mutex::default(), Notify::new());
        Self(Arc::new(Shared { database, subjects, limits, stop, places, tails, begun }))
    }

    /// Looks for news until told to stop.
    pub(crate) async fn keep_fed(self) {
        let mut was_away = false;
        loop {
            if self.0.watched().is_empty() {
                tokio::select! {
                    () = self.0.begun.notified() => {}
                    () = self.0.stop.cancelled() => return,
                }
            }
            match self.0.feed().await {
                // There may be more at once.
                Ok(true) => continue,
                Ok(false) => was_away = false,
                Err(error) if !std::mem::replace(&mut was_away, true) => {
                    tracing::warn!(%error, "the trail cannot be followed; tried again");
                }
                Err(_) => {}
            }
            tokio::select! {
                () = tokio::time::sleep(POLL) => {}
                () = self.0.stop.cancelled() => return,
            }
        }
    }

    /// What a team's trail holds after a position, and what comes from then on; 0: only that. The stream ends with an
    /// error after the longest time that one lasts, and can be taken up again after its last position.
    pub(crate) async fn watch(
        &self,
        team: &str,
        filter: Filter,
        after: i64,
    ) -> Result<impl Stream<Item = Result<Step, Error>> + Send + 'static, Error> {
        if after < 0 {
            return Err(Error::invalid("after_sequence", "must not be negative"));
        }
        let place = self.0.places.take(team.to_owned(), 1).map_err(|full| match full {
            Full::One(most) => Error::TooManyWatches { whose: "this team", most },
            Full::All(most) => Error::TooManyWatches { whose: "this process", most },
        })?;
        let (position, news) = self.0.join(team).await?;
        let now = Instant::now();
        let watch = Watch {
            _place: place,
            shared: Arc::clone(&self.0),
            team: team.to_owned(),
            user: filter.user.clone(),
            filter,
            cursor: if after == 0 { position } else { after },
            is_told_where: after > 0,
            there: position,
            news,
            begun: now,
            last: now,
            away_since: None,
        };
        Ok(futures_util::stream::unfold(Some(watch), |watch| async {
            let mut watch = watch?;
            match watch.next().await {
                Ok(step) => Some((Ok(step), Some(watch))),
                Err(error) => Some((Err(error), None)),
            }
        }))
    }
}

impl Shared {
    fn tails(&self) -> MutexGuard<'_, HashMap<String, Tail>> {
        self.tails.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The teams that are watched, with how far each was read; those that nobody watches any more are forgotten.
    fn watched(&self) -> Vec<(String, i64)> {
        let mut tails = self.tails();
        tails.retain(|_, tail| tail.news.receiver_count() > 0);
        tails.iter().map(|(team, tail)| (team.clone(), tail.position)).collect()
    }

    /// Joins those that watch a team: everything up to the position is to be read, what comes after it is told.
    async fn join(&self, team: &str) -> Result<(i64, News), Error> {
        let there =
            |shared: &Self| shared.tails().get(team).map(|tail| (tail.position, tail.news.subscribe()));
        if let Some(joined) = there(self) {
            return Ok(joined);
        }
        let ends = store::ends_get(self.database.pool()?, &[team.to_owned()]).await?;
        let position = ends.first().map_or(0, |(_, position)| *position);
        let mut tails = self.tails();
        let tail = tails
            .entry(team.to_owned())
            .or_insert_with(|| Tail { position, news: broadcast::channel(BEHIND).0 });
        let joined = (tail.position, tail.news.subscribe());
        drop(tails);
        self.begun.notify_one();
        Ok(joined)
    }

    /// Reads what came to the watched teams, a page of each; `true`: somewhere there is more. What an older version wrote
    /// is waited for until it is moved, and so is what comes after it.
    async fn feed(&self) -> Result<bool, Error> {
        let watched = self.watched();
        let (pool, mut more) = (self.database.pool()?, false);
        let teams: Vec<String> = watched.iter().map(|(team, _)| team.clone()).collect();
        let ends: HashMap<String, i64> = store::ends_get(pool, &teams).await?.into_iter().collect();
        for (team, position) in watched {
            let Some(end) = ends.get(&team).copied().filter(|end| *end > position) else { continue };
            let rows = store::records_after(pool, &team, (position, end), PAGE).await?;
            let is_whole = i64::try_from(rows.len()).unwrap_or(i64::MAX) < PAGE;
            let until = if is_whole { end } else { rows.last().map_or(end, |row| row.sequence) };
            more |= !is_whole;
            if let Some(tail) = self.tails().get_mut(&team) {
                // Under the lock, so that whoever joins has the position that goes with what it is told.
                tail.position = until;
                let _ = tail.news.send(Arc::new(rows));
            }
        }
        Ok(more)
    }
}

struct Watch {
    _place: Share<String>,
    shared: Arc<Shared>,
    team: String,
    filter: Filter,
    /// The user asked for, whose pseudonym may not be there yet, and may change.
    user: Option<String>,
    /// Everything up to here was looked through.
    cursor: i64,
    /// Whether the receiver knows a position to go on after, should the stream break.
    is_told_where: bool,
    /// What is told begins after this position.
    there: i64,
    news: News,
    begun: Instant,
    /// When something was last sent.
    last: Instant,
    /// Since when the database cannot be read.
    away_since: Option<Instant>,
}

impl Watch {
    /// The next records that fit, or a sign of life.
    async fn next(&mut self) -> Result<Step, Error> {
        if !std::mem::replace(&mut self.is_told_where, true) {
            return Ok(Step { rows: Vec::new(), position: self.cursor });
        }
        loop {
            let limits = self.shared.limits;
            if self.shared.stop.is_cancelled() {
                return Err(Error::ShuttingDown);
            }
            if self.begun.elapsed() >= limits.longest {
                return Err(Error::WatchTooLong { longest: limits.longest, after: self.cursor });
            }
            let rows = if self.cursor < self.there { self.catch_up().await? } else { self.hear().await };
            let rows = self.fitting(rows).await?;
            let is_silent = self.last.elapsed() >= limits.heartbeat;
            if !rows.is_empty() || is_silent {
                self.last = Instant::now();
                return Ok(Step { rows, position: self.cursor });
            }
        }
    }

    /// Reads what is behind what is told, a page at a time.
    async fn catch_up(&mut self) -> Result<Vec<RecordRow>, Error> {
        let read = async {
            let pool = self.shared.database.pool()?;
            store::records_after(pool, &self.team, (self.cursor, self.there), PAGE).await
        };
        match read.await {
            Ok(rows) => {
                self.away_since = None;
                let is_whole = i64::try_from(rows.len()).unwrap_or(i64::MAX) < PAGE;
                let until = if is_whole { None } else { rows.last().map(|row| row.sequence) };
                self.cursor = until.unwrap_or(self.there);
                Ok(rows)
            }
            Err(error @ ::store::Error::Unavailable(_)) => {
                let since = *self.away_since.get_or_insert_with(Instant::now);
                if since.elapsed() >= OUTAGE {
                    return Err(error.into());
                }
                tokio::time::sleep(POLL).await;
                Ok(Vec::new())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// What is told next; nothing when it is time for a sign of life, or when this was too slow and must catch up.
    async fn hear(&mut self) -> Vec<RecordRow> {
        let heard = tokio::select! {
            heard = self.news.recv() => heard,
            () = tokio::time::sleep_until(self.last + self.shared.limits.heartbeat) => return Vec::new(),
            () = self.shared.stop.cancelled() => return Vec::new(),
        };
        if let Ok(rows) = heard {
            let new: Vec<_> = rows.iter().filter(|row| row.sequence > self.cursor).cloned().collect();
            self.cursor = new.last().map_or(self.cursor, |row| row.sequence);
            self.there = self.there.max(self.cursor);
            new
        } else {
            if let Some(tail) = self.shared.tails().get(&self.team) {
                (self.there, self.news) = (tail.position, tail.news.subscribe());
            }
            Vec::new()
        }
    }

    /// Those that the filter is about. A user may have become known with these very records.
    async fn fitting(&mut self, mut rows: Vec<RecordRow>) -> Result<Vec<RecordRow>, Error> {
        if let (Some(user), false) = (&self.user, rows.is_empty()) {
            let mut filter = Filter { user: Some(user.clone()), subject_id: None, ..self.filter.clone() };
            if !query::name_subject(&self.shared.subjects, &self.team, &mut filter).await? {
                return Ok(Vec::new());
            }
            rows.retain(|row| row.subject_id == filter.subject_id);
        }
        rows.retain(|row| fits(&self.filter, row));
        Ok(rows)
    }
}

/// Whether a record is asked for; times and users are not looked at.
fn fits(filter: &Filter, row: &RecordRow) -> bool {
    let is = |asked: &Option<String>, value: &str| asked.as_deref().is_none_or(|asked| asked == value);
    is(&filter.agent_id, &row.agent_id)
        && is(&filter.tool_name, &row.tool_name)
        && is(&filter.task_id, &row.task_id)
        && is(&filter.action, &row.action)
        && is(&filter.result, &row.result)
        && is(&filter.classification, &row.classification)
        && (filter.execution_id.is_none() || filter.execution_id == row.execution_id)
        && (filter.subject_id.is_none() || filter.subject_id == row.subject_id)
}
