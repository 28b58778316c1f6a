//! Threads of low priority that make vectors of tools: a bounded number, so that selections keep the processor.

use std::sync::{Arc, Mutex, PoisonError, mpsc};

use embed::{Embedder, Vector};
use tokio::sync::oneshot;

/// How much lower than the others' the priority is, as `nice` counts.
const NICE: i32 = 10;

/// Texts, and where their vectors are awaited.
struct Job {
    texts: Vec<String>,
    made: oneshot::Sender<Vec<Vector>>,
}

/// The threads; they end with it.
#[derive(Debug)]
pub(crate) struct Lanes {
    jobs: mpsc::Sender<Job>,
}

impl Lanes {
    /// Starts this many threads.
    pub(crate) fn start(embedder: &Arc<Embedder>, count: usize) -> Self {
        let (jobs, waiting) = mpsc::channel();
        let waiting = Arc::new(Mutex::new(waiting));
        for number in 0..count.max(1) {
            let (embedder, waiting) = (Arc::clone(embedder), Arc::clone(&waiting));
            let thread = std::thread::Builder::new().name(format!("vectors-{number}"));
            if let Err(error) = thread.spawn(move || work(&embedder, &waiting)) {
                tracing::error!(%error, "a thread that makes vectors cannot be started");
            }
        }
        Self { jobs }
    }

    /// Vectors of these texts; `None` when the threads are gone.
    pub(crate) async fn embed(&self, texts: Vec<String>) -> Option<Vec<Vector>> {
        let (made, awaited) = oneshot::channel();
        self.jobs.send(Job { texts, made }).ok()?;
        awaited.await.ok()
    }
}

fn work(embedder: &Embedder, waiting: &Mutex<mpsc::Receiver<Job>>) {
    // On Linux the priority is the thread's own. Without it, the vectors are made all the same.
    if let Err(error) = rustix::process::nice(NICE) {
        tracing::debug!(%error, "the priority of a thread that makes vectors stays as it is");
    }
    loop {
        let job = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        if !job.made.is_closed() {
            let texts: Vec<&str> = job.texts.iter().map(String::as_str).collect();
            let _ = job.made.send(embedder.embed(&texts));
        }
    }
}
