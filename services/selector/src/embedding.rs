//! The sentence model of this process, or what is left of it: the only file that knows the model. A file of it that is
//! missing or damaged costs quality, never a call: full falls back to static, static to lexical, and the reason is told.

use std::{path::Path, sync::Arc, time::Duration};

use embed::{Embedder, Vector};
use moka::future::Cache;
use opentelemetry::KeyValue;
use tokio::{runtime::Handle, sync::Semaphore, time::timeout};

use crate::{
    fuse::Mode,
    texts::{Digest, digest},
};

/// Bytes of task vectors that are kept.
const CACHED_BYTES: u64 = 16 * 1024 * 1024;
/// Bytes that an entry of the cache takes beside its vector.
const ENTRY_BYTES: usize = 160;
/// How long a task's vector is kept.
const CACHED_FOR: Duration = Duration::from_hours(6);
/// Tasks that may wait for each of those that are embedded at once: about as many as a second is enough for.
const WAITING: usize = 128;
/// Why a task has no vectors.
const TOO_MANY: &str = "too many tasks wait for their vectors";
const LATE: &str = "the task's vector was not made in time: too many are waited for";
const FAILED: &str = "the task's vector could not be made";

/// What makes vectors of texts. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Embedding(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    embedder: Option<Arc<Embedder>>,
    configured: Mode,
    mode: Mode,
    reason: String,
    /// Tasks that are embedded at once for selections.
    lanes: Arc<Semaphore>,
    /// Those, and the tasks that wait for them.
    places: Semaphore,
    /// By digest: no text is kept.
    cache: Cache<Digest, Arc<Vector>>,
}

impl Embedding {
    /// Opens the model in the best mode that its files allow. Reads them: blocks for as long.
    pub(crate) fn open(folder: Option<&Path>, configured: Mode, threads: usize) -> Self {
        let modes: &[(Mode, embed::Mode)] = match configured {
            Mode::Full => &[(Mode::Full, embed::Mode::Full), (Mode::Static, embed::Mode::Static)],
            Mode::Static => &[(Mode::Static, embed::Mode::Static)],
            Mode::Lexical => &[],
        };
        let mut faults = Vec::new();
        for (mode, wanted) in modes {
            match Embedder::open(folder, *wanted) {
                Ok(embedder) => return Self::new(Some(embedder), configured, *mode, &faults, threads),
                Err(fault) => faults.push(format!("{} mode: {fault}", mode.as_str())),
            }
        }
        Self::new(None, configured, Mode::Lexical, &faults, threads)
    }

    fn new(
        embedder: Option<Embedder>,
        configured: Mode,
        mode: Mode,
        faults: &[String],
        threads: usize,
    ) -> Self {
        let reason = faults.join("; ");
        if !reason.is_empty() {
            tracing::error!(
                configured = configured.as_str(),
                mode = mode.as_str(),
                "the model cannot be used: {reason}"
            );
        }
        opentelemetry::global::meter("toolcrib")
            .u64_gauge("toolcrib.selector.mode")
            .with_description("What tasks are matched with: 1 for the mode that the selector works in.")
            .build()
            .record(
                1,
                &[KeyValue::new("mode", mode.as_str()), KeyValue::new("configured", configured.as_str())],
            );
        let cache = Cache::builder()
            .max_capacity(CACHED_BYTES)
            .weigher(|_, vector: &Arc<Vector>| {
                u32::try_from(vector.dimension() + ENTRY_BYTES).unwrap_or(u32::MAX)
            })
            .time_to_idle(CACHED_FOR)
            .build();
        Self(Arc::new(Inner {
            embedder: embedder.map(Arc::new),
            configured,
            mode,
            reason,
            lanes: Arc::new(Semaphore::new(threads.max(1))),
            places: Semaphore::new(threads.max(1) * (1 + WAITING)),
            cache,
        }))
    }

    /// What was configured.
    pub(crate) fn configured(&self) -> Mode {
        self.0.configured
    }

    /// What the files allow.
    pub(crate) fn mode(&self) -> Mode {
        self.0.mode
    }

    /// Why the two differ; empty when they do not.
    pub(crate) fn reason(&self) -> &str {
        &self.0.reason
    }

    /// What vectors of this model are kept under; empty without one.
    pub(crate) fn model_id(&self) -> &str {
        self.0.embedder.as_ref().map_or("", |embedder| embedder.model_id())
    }

    /// What makes vectors; `None` in lexical mode.
    pub(crate) fn embedder(&self) -> Option<&Arc<Embedder>> {
        self.0.embedder.as_ref()
    }

    /// The vectors of a task's texts, those that are kept at once, the others within this time; or why there are none.
    pub(crate) async fn vectors(
        &self,
        texts: &[&str],
        within: Duration,
    ) -> Result<Vec<Arc<Vector>>, &'static str> {
        let keys: Vec<Digest> = texts.iter().map(|text| digest(text)).collect();
        let mut found = Vec::with_capacity(keys.len());
        for key in &keys {
            found.push(self.0.cache.get(key).await);
        }
        let missing: Vec<usize> = (0..keys.len()).filter(|place| found[*place].is_none()).collect();
        if !missing.is_empty() {
            let asked = missing.iter().map(|place| (keys[*place], texts[*place].to_owned())).collect();
            let made = timeout(within, self.make(asked)).await.map_err(|_| LATE)??;
            for (place, vector) in missing.into_iter().zip(made) {
                found[place] = Some(vector);
            }
        }
        found.into_iter().collect::<Option<_>>().ok_or(FAILED)
    }

    /// Embeds texts and keeps their vectors. What is begun is ended and kept though nobody waits for it any more, and
    /// holds its lane until then: so no more is under way than there are lanes, and none of it is done twice for nothing.
    async fn make(&self, texts: Vec<(Digest, String)>) -> Result<Vec<Arc<Vector>>, &'static str> {
        let embedder = self.0.embedder.clone().ok_or(FAILED)?;
        let _place = self.0.places.try_acquire().map_err(|_| TOO_MANY)?;
        let lane = Arc::clone(&self.0.lanes).acquire_owned().await.map_err(|_| FAILED)?;
        let (inner, runtime) = (Arc::clone(&self.0), Handle::current());
        let embed = move || {
            let (keys, texts): (Vec<Digest>, Vec<String>) = texts.into_iter().unzip();
            let made = embedder.embed(&texts.iter().map(String::as_str).collect::<Vec<_>>());
            let made: Vec<Arc<Vector>> = made.into_iter().map(Arc::new).collect();
            for (key, vector) in keys.into_iter().zip(&made) {
                runtime.block_on(inner.cache.insert(key, Arc::clone(vector)));
            }
            drop(lane);
            made
        };
        let made = tokio::task::spawn_blocking(embed).await;
        made.inspect_err(|error| tracing::error!(%error, "a task could not be embedded")).map_err(|_| FAILED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reading::Reading;

    fn open() -> Embedding {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/all-minilm-l6-v2");
        let embedding = Embedding::open(Some(&folder), Mode::Full, 1);
        assert_eq!((embedding.mode(), embedding.reason()), (Mode::Full, ""));
        embedding
    }

    #[tokio::test]
    async fn what_is_begun_holds_its_lane_and_is_kept_though_its_caller_is_gone() {
        let embedding = open();
        let texts: Vec<String> =
            (0..9).map(|number| format!("{number} {}", "draws a cat ".repeat(100))).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        assert_eq!(embedding.vectors(&texts, Duration::ZERO).await, Err(LATE));
        let _lane = embedding.0.lanes.acquire().await.unwrap();
        let kept = embedding.vectors(&texts, Duration::ZERO).await;
        assert_eq!(
            kept.map(|vectors| vectors.len()),
            Ok(9),
            "with no lane left, they come from what is kept"
        );
    }

    #[tokio::test]
    async fn where_too_many_wait_a_task_is_read_by_its_words_at_once() {
        let embedding = open();
        let lane = embedding.0.lanes.acquire().await.unwrap();
        let all = u32::try_from(embedding.0.places.available_permits()).unwrap();
        let waiting = embedding.0.places.acquire_many(all).await.unwrap();
        let reading = Reading::of("draw a cat", &embedding, Duration::from_hours(1)).await;
        assert_eq!((reading.mode, reading.mode_reason.as_str()), (Mode::Lexical, TOO_MANY));
        drop((lane, waiting));
        assert!(embedding.vectors(&["draw a cat"], Duration::from_hours(1)).await.is_ok());
        assert_eq!(embedding.0.places.available_permits(), all as usize);
    }
}
