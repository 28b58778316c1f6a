//! The sentence model of this process, or what is left of it: the only file that knows the model. A file of it that is
//! missing or damaged costs quality, never a call: full falls back to static, static to lexical, and the reason is told.

use std::{path::Path, sync::Arc, time::Duration};

use embed::{Embedder, Vector};
use moka::future::Cache;
use opentelemetry::KeyValue;
use tokio::{sync::Semaphore, time::timeout};

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

/// What makes vectors of texts. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Embedding(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    embedder: Option<Arc<Embedder>>,
    configured: Mode,
    mode: Mode,
    reason: String,
    /// Texts that are embedded at once for selections.
    lanes: Semaphore,
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
            lanes: Semaphore::new(threads.max(1)),
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

    /// The vectors of a task's texts, those that are kept at once, the others within this time. `None`: in lexical mode,
    /// or when they could not be made in time.
    pub(crate) async fn vectors(&self, texts: &[&str], within: Duration) -> Option<Vec<Arc<Vector>>> {
        let embedder = self.0.embedder.as_ref()?;
        let keys: Vec<Digest> = texts.iter().map(|text| digest(text)).collect();
        let mut found = Vec::with_capacity(keys.len());
        for key in &keys {
            found.push(self.0.cache.get(key).await);
        }
        let missing: Vec<usize> = (0..keys.len()).filter(|place| found[*place].is_none()).collect();
        if !missing.is_empty() {
            let asked = missing.iter().map(|place| texts[*place].to_owned()).collect();
            let made = timeout(within, self.make(Arc::clone(embedder), asked)).await.ok().flatten()?;
            for (place, vector) in missing.into_iter().zip(made) {
                let vector = Arc::new(vector);
                self.0.cache.insert(keys[place], Arc::clone(&vector)).await;
                found[place] = Some(vector);
            }
        }
        found.into_iter().collect()
    }

    async fn make(&self, embedder: Arc<Embedder>, texts: Vec<String>) -> Option<Vec<Vector>> {
        let _lane = self.0.lanes.acquire().await.ok()?;
        let embed = move || embedder.embed(&texts.iter().map(String::as_str).collect::<Vec<_>>());
        let made = tokio::task::spawn_blocking(embed).await;
        made.inspect_err(|error| tracing::error!(%error, "a task could not be embedded")).ok()
    }
}
