//! The keys of one issuer: read over HTTP, kept, read again every few minutes and when a token names one that is not
//! known. Must never take a key for another kind or use than it says, nor use keys that are long out of date.

mod key;

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

use jsonwebtoken::Algorithm;
use reach::{Authorities, CertificateFault};
use reqwest::{Client, StatusCode, header, redirect::Policy};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use url::Url;

pub(crate) use key::Key;

/// Largest set that is read, in bytes.
const MAX_BYTES: usize = 1024 * 1024;
/// Most that wait for a reading at once: a quarter of what the service may have under way.
const MAX_WAITING: usize = 256;
/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How keys are kept.
#[derive(Debug, Clone)]
pub(crate) struct Keeping {
    /// How often they are read again.
    pub refresh: Duration,
    /// How long they are used when they cannot be read again.
    pub stale: Duration,
    /// Least time between two readings that failed; after each time of this length tokens may ask for one more, up to
    /// `burst`.
    pub gap: Duration,
    /// Least time between two readings that tokens ask for.
    pub least: Duration,
    /// Readings that tokens may ask for at once, as long as none fails.
    pub burst: u32,
    /// How long a reading may take.
    pub timeout: Duration,
}

/// The keys of one issuer.
pub(crate) struct Jwks {
    issuer: String,
    address: Url,
    client: Client,
    keeping: Keeping,
    known: RwLock<Option<Known>>,
    /// The last reading. One reads at a time, for all that wait.
    last: tokio::sync::Mutex<Last>,
    /// One place for each that waits for a reading.
    waiting: Semaphore,
}

#[derive(Clone)]
struct Known {
    keys: Arc<[Key]>,
    read_at: Instant,
}

/// What the last reading came to, and what tokens may still ask for.
#[derive(Debug, Default)]
struct Last {
    /// When it ended, and whether it succeeded.
    end: Option<(Instant, bool)>,
    asked: Bucket,
}

/// Readings that tokens asked for, as a token bucket: what was taken of it, as of a time.
#[derive(Debug, Default)]
struct Bucket {
    taken: f64,
    at: Option<Instant>,
}

impl Bucket {
    /// Takes one of at most `burst`, one of which comes back each `gap`; `false`: there is none.
    fn take(&mut self, burst: u32, gap: Duration, now: Instant) -> bool {
        let back = self.at.map_or(0.0, |at| {
            now.saturating_duration_since(at).as_secs_f64() / gap.as_secs_f64().max(f64::MIN_POSITIVE)
        });
        (self.taken, self.at) = ((self.taken - back).max(0.0), Some(now));
        let is_there = self.taken + 1.0 <= f64::from(burst);
        if is_there {
            self.taken += 1.0;
        }
        is_there
    }
}

/// Why there is no key for a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Miss {
    /// The issuer has no key of this id.
    Unknown,
    /// It has one, which is not for this algorithm.
    Unfit,
    /// The token does not say which of several it is, or several have this id.
    Ambiguous,
    /// The keys cannot be read.
    Unavailable,
}

impl Jwks {
    pub(crate) fn new(
        issuer: &str,
        address: Url,
        keeping: Keeping,
        authorities: &Authorities,
    ) -> Result<Self, reqwest::Error> {
        let client = authorities
            .add_to(Client::builder())
            .redirect(Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT.min(keeping.timeout))
            .timeout(keeping.timeout)
            .user_agent(concat!("toolcrib/", env!("CARGO_PKG_VERSION")))
            .build()?;
        let (known, last) = (RwLock::default(), tokio::sync::Mutex::default());
        let waiting = Semaphore::new(MAX_WAITING);
        Ok(Self { issuer: issuer.to_owned(), address, client, keeping, known, last, waiting })
    }

    /// The key of this id that is for this algorithm. A token without an id is for the only one that fits.
    pub(crate) async fn find(&self, id: Option<&str>, algorithm: (&str, Algorithm)) -> Result<Key, Miss> {
        match self.known().map(|keys| key::pick(&keys, id, algorithm)) {
            Some(Err(Miss::Unknown)) | None => self.read_if_due().await,
            Some(found) => return found,
        }
        self.known().map_or(Err(Miss::Unavailable), |keys| key::pick(&keys, id, algorithm))
    }

    /// Reads the keys again and again until told to stop.
    pub(crate) async fn keep_read(&self, stop: CancellationToken) {
        let mut was_read = true;
        loop {
            let pause = match self.read().await {
                Ok(()) => {
                    was_read = true;
                    self.keeping.refresh
                }
                Err(fault) => {
                    if std::mem::replace(&mut was_read, false) {
                        self.warn(&fault);
                    }
                    self.keeping.gap.min(self.keeping.refresh)
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// The keys, unless they are too old.
    fn known(&self) -> Option<Arc<[Key]>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known
            .as_ref()
            .filter(|known| known.read_at.elapsed() <= self.keeping.stale)
            .map(|known| Arc::clone(&known.keys))
    }

    async fn read_if_due(&self) {
        // More need not wait: whoever makes tokens up must not fill the service with them.
        let Ok(_place) = self.waiting.try_acquire() else { return };
        let mut last = self.last.lock().await;
        if !self.is_due(&mut last) {
            return;
        }
        // Only once it has ended: a reading whose request was given up is made by the next.
        let read = self.fetch().await;
        last.end = Some((Instant::now(), read.is_ok()));
        if let Err(fault) = read {
            self.warn(&fault);
        }
    }

    /// Whether a token may ask for a reading now. A key that is new is found at once, and guesses cost few readings.
    fn is_due(&self, last: &mut Last) -> bool {
        let Keeping { gap, least, burst, .. } = self.keeping;
        match last.end {
            None => true,
            Some((at, false)) => at.elapsed() >= gap,
            Some((at, true)) => at.elapsed() >= least && last.asked.take(burst, gap, Instant::now()),
        }
    }

    async fn read(&self) -> Result<(), String> {
        let mut last = self.last.lock().await;
        let read = self.fetch().await;
        last.end = Some((Instant::now(), read.is_ok()));
        read
    }

    async fn fetch(&self) -> Result<(), String> {
        let read_at = Instant::now();
        let request = self.client.get(self.address.clone()).header(header::ACCEPT, "application/json");
        let mut response = request.send().await.map_err(|error| told(&error))?;
        if response.status() != StatusCode::OK {
            return Err(format!("answered with status {}", response.status().as_u16()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| told(&error))? {
            if body.len() + chunk.len() > MAX_BYTES {
                return Err(format!("answered with more than {MAX_BYTES} bytes"));
            }
            body.extend_from_slice(&chunk);
        }
        let keys = key::read_set(&body)?;
        tracing::debug!(issuer = self.issuer, keys = keys.len(), "the keys of an issuer were read");
        let known = Known { keys: keys.into(), read_at };
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = Some(known);
        Ok(())
    }

    fn warn(&self, fault: &str) {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let age_s = known.as_ref().map(|known| known.read_at.elapsed().as_secs());
        tracing::warn!(
            issuer = self.issuer,
            host = self.address.host_str(),
            fault,
            age_s,
            stale_s = self.keeping.stale.as_secs(),
            "the keys of an issuer cannot be read"
        );
    }
}

impl fmt::Debug for Jwks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jwks").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

/// In words of our own: those of the client may hold the address with its query.
fn told(error: &reqwest::Error) -> String {
    if let Some(fault) = CertificateFault::of(error) {
        return format!("cannot be connected to: {fault}");
    }
    let what = match (error.is_timeout(), error.is_connect()) {
        (true, _) => "did not answer in time",
        (false, true) => "cannot be connected to",
        (false, false) => "broke off its answer",
    };
    what.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_unknown_keys_asks_for_six_readings_and_then_for_one_each_ten_seconds() {
        let (mut bucket, start) = (Bucket::default(), Instant::now());
        let at = |tenths: u64| start + Duration::from_millis(100 * tenths);
        let gap = Duration::from_secs(10);
        let asked: Vec<u64> = (0..3_000).filter(|tenths| bucket.take(6, gap, at(*tenths))).collect();
        assert_eq!(asked[..6], [0, 1, 2, 3, 4, 5]);
        assert!((6 + 29..=6 + 30).contains(&asked.len()), "{asked:?}");
        assert!(asked[6..].windows(2).all(|pair| (99..=101).contains(&(pair[1] - pair[0]))), "{asked:?}");
        // What was not asked for comes back, and no more than there is.
        let later = (100_000..100_100).filter(|tenths| bucket.take(6, gap, at(*tenths))).count();
        assert_eq!(later, 6);
    }
}
