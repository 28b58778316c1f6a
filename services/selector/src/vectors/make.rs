//! Makes the vectors that are missing: those that were kept are read, the others are embedded by threads of low
//! priority, and kept. Teams take turns, so that a large one holds up no small one.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use ::store::Database;
use catalog::TeamTools;
use embed::Vector;
use tokio::{task::JoinSet, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::Vectors;
use crate::{
    index::{Index, Indexes},
    lanes::Lanes,
    store,
    texts::Digest,
};

/// How often the catalog is looked at for what changed.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// Texts that one thread embeds at once.
const BATCH: usize = 16;
/// Texts that a team has embedded before it is another's turn.
const TURN: usize = 256;
/// Vectors that are read or written at once.
const ROWS: usize = 2_000;
/// How often it is noted that vectors are still used.
const TOUCH_INTERVAL: Duration = Duration::from_hours(24);

/// Makes vectors for every team until told to stop.
pub(crate) struct Maker {
    pub vectors: Vectors,
    pub indexes: Indexes,
    pub database: Database,
    pub lanes: Arc<Lanes>,
    pub stop: CancellationToken,
}

/// What one team still lacks.
struct Work {
    team: String,
    missing: Vec<(Digest, String)>,
}

impl Maker {
    /// Follows the catalog until told to stop.
    pub(crate) async fn run(self) {
        tokio::select! {
            () = self.follow() => {}
            () = self.stop.cancelled() => {}
        }
    }

    async fn follow(&self) {
        let (mut seen, mut touched) = (HashMap::new(), HashMap::new());
        let mut queue: VecDeque<Work> = VecDeque::new();
        let mut tick = tokio::time::interval(LOOK_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let due = if queue.is_empty() {
                tokio::select! {
                    _ = tick.tick() => self.due(&mut seen, &touched),
                    teams = self.vectors.missed() => teams,
                }
            } else {
                self.due(&mut seen, &touched)
            };
            for team in due {
                if !queue.iter().any(|work| work.team == team) {
                    queue.extend(self.begin(team, &mut touched).await);
                }
            }
            let Some(mut work) = queue.pop_front() else { continue };
            if !self.make(&mut work).await {
                tracing::error!(team = work.team, "vectors cannot be made; its tools are matched by words");
            } else if work.missing.is_empty() {
                // What changed meanwhile is missing still.
                queue.extend(self.begin(work.team, &mut touched).await);
            } else {
                queue.push_back(work);
            }
        }
    }

    /// The teams whose tools are not those that were seen last, and those whose day is over.
    fn due(
        &self,
        seen: &mut HashMap<String, Arc<TeamTools>>,
        touched: &HashMap<String, Instant>,
    ) -> Vec<String> {
        let is_over = |last: &Instant| last.elapsed() >= TOUCH_INTERVAL;
        let mut due = Vec::new();
        for (team, tools) in self.indexes.catalog().teams() {
            let is_new = seen.get(&team).is_none_or(|last| !Arc::ptr_eq(last, &tools));
            if is_new || touched.get(&team).is_some_and(is_over) {
                due.push(team.clone());
                seen.insert(team, tools);
            }
        }
        due
    }

    /// Reads what was kept of what a team lacks; gives what has to be made, if anything.
    async fn begin(&self, team: String, touched: &mut HashMap<String, Instant>) -> Option<Work> {
        let index = self.indexes.team(&team).await;
        let mut missing = self.vectors.missing(&team, &index);
        if !missing.is_empty() {
            self.read(&team, &mut missing).await;
        }
        if missing.is_empty() {
            self.tidy(&team, &index, touched).await;
            return None;
        }
        Some(Work { team, missing: missing.into_iter().collect() })
    }

    /// Takes what was kept off what is missing.
    async fn read(&self, team: &str, missing: &mut BTreeMap<Digest, String>) {
        let digests: Vec<Digest> = missing.keys().copied().collect();
        for some in digests.chunks(ROWS) {
            let rows = match self.database.pool() {
                Ok(pool) => store::vectors_read(pool, team, self.model_id(), some).await,
                Err(error) => Err(error),
            };
            let rows = match rows {
                Ok(rows) => rows,
                Err(error) => {
                    tracing::warn!(%error, "kept vectors cannot be read; they are made anew");
                    return;
                }
            };
            let sound = rows.into_iter().filter_map(|(digest, bytes)| Some((digest, self.vector(&bytes)?)));
            let sound: Vec<(Digest, Vector)> = sound.collect();
            for (digest, _) in &sound {
                missing.remove(digest);
            }
            self.vectors.put(team, sound);
        }
    }

    /// A vector that was kept, unless it is damaged: then it is made anew.
    fn vector(&self, bytes: &[u8]) -> Option<Vector> {
        let dimension = self.vectors.embedding.embedder()?.dimension();
        Vector::from_bytes(bytes).filter(|vector| vector.dimension() == dimension)
    }

    /// Embeds a turn of what a team lacks, and keeps it; `false` when nothing could be made.
    async fn make(&self, work: &mut Work) -> bool {
        let some = work.missing.split_off(work.missing.len().saturating_sub(TURN));
        let mut running = JoinSet::new();
        for batch in some.chunks(BATCH) {
            let (batch, lanes) = (batch.to_vec(), Arc::clone(&self.lanes));
            running.spawn(async move {
                let (digests, texts): (Vec<Digest>, Vec<String>) = batch.into_iter().unzip();
                let made = lanes.embed(texts).await.unwrap_or_default();
                digests.into_iter().zip(made).collect::<Vec<_>>()
            });
        }
        let mut made = Vec::new();
        while let Some(batch) = running.join_next().await {
            made.extend(batch.unwrap_or_default());
        }
        if made.is_empty() {
            return false;
        }
        let team = work.team.as_str();
        let rows: Vec<(Digest, Vec<u8>)> =
            made.iter().map(|(digest, vector)| (*digest, vector.to_bytes())).collect();
        self.vectors.put(team, made);
        let kept = match self.database.pool() {
            Ok(pool) => store::vectors_insert(pool, team, self.model_id(), &rows).await,
            Err(error) => Err(error),
        };
        if let Err(error) = kept {
            tracing::warn!(%error, vectors = rows.len(), "vectors are not kept; the next start makes them anew");
        }
        true
    }

    /// Forgets what is not used any more, and notes once a day what is.
    async fn tidy(&self, team: &str, index: &Index, touched: &mut HashMap<String, Instant>) {
        let used = self.vectors.keep(team, index);
        if touched.get(team).is_some_and(|last| last.elapsed() < TOUCH_INTERVAL) {
            return;
        }
        touched.insert(team.to_owned(), Instant::now());
        for some in used.chunks(ROWS) {
            let noted = match self.database.pool() {
                Ok(pool) => store::vectors_touch(pool, team, self.model_id(), some).await,
                Err(error) => Err(error),
            };
            if let Err(error) = noted {
                tracing::warn!(%error, "it is not noted that vectors are used");
                return;
            }
        }
    }

    fn model_id(&self) -> &str {
        self.vectors.embedding.model_id()
    }
}
