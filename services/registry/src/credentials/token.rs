//! Tokens of OAuth 2.0, fetched once for all callers of all processes, ahead of their end. A refresh token that the
//! server replaces is in the database before its access token is used. A fetch ends though its caller goes away.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use tokio::{sync::Mutex as AsyncMutex, time::Instant};
use uuid::Uuid;

use super::{
    Credentials,
    envelope::Owner,
    oauth::{self, Grant, Refusal},
    resolve::millis,
    sealed::{self, Opened},
    secret::Text,
};
use crate::{
    Error,
    store::{self, LiveVersion},
};

/// A token is renewed this long before its end, or a tenth of its life, whichever is less.
const AHEAD: Duration = Duration::from_mins(1);
/// How long a process may take to keep what it fetched, before it is taken for dead.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// How often the database is asked whether another process is done.
const POLL: Duration = Duration::from_millis(50);
/// Pause after a fetch that failed; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_mins(1);
/// Pause after a refusal that would be repeated.
const FINAL_PAUSE: Duration = Duration::from_secs(30);

/// Which version a token is of.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Slot {
    team: String,
    name: String,
    version: i32,
}

impl Slot {
    fn key(&self) -> (&str, &str, i32) {
        (&self.team, &self.name, self.version)
    }
}

/// How long the parts of a fetch may take.
#[derive(Debug, Clone, Copy)]
struct Times {
    /// To ask, and to keep what was granted.
    fetch: Duration,
    /// Until a fetch is taken for dead: clearly longer than one that is kept may take, with what the database takes to
    /// answer.
    claim: Duration,
    /// Until those who wait for another process give up: one may die, and so may the one after it.
    wait: Duration,
}

impl Times {
    /// Where an answer may take so long.
    fn of(timeout: Duration) -> Self {
        let fetch = timeout + PATIENCE;
        let claim = fetch + PATIENCE + PATIENCE;
        Self { fetch, claim, wait: claim + claim }
    }
}

/// The fetches of this process that are under way.
#[derive(Default)]
pub(super) struct Flights(Mutex<HashMap<Slot, Weak<AsyncMutex<()>>>>);

impl Flights {
    fn of(&self, slot: &Slot) -> Arc<AsyncMutex<()>> {
        let mut flights = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = flights.get(slot).and_then(Weak::upgrade) {
            return flight;
        }
        flights.retain(|_, flight| flight.strong_count() > 0);
        let flight = Arc::default();
        flights.insert(slot.clone(), Arc::downgrade(&flight));
        flight
    }
}

/// Whether a token is to be fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    Not,
    /// It ends soon; until then it may be used.
    Soon,
    Now,
}

fn need(live: &LiveVersion) -> Need {
    let left = live.token.as_ref().and(live.token_left_ms).map_or(Duration::ZERO, millis);
    let ahead = AHEAD.min(live.token_life_ms.map_or(Duration::ZERO, millis) / 10);
    if left.is_zero() {
        Need::Now
    } else if left > ahead || live.fetch_wait_ms.is_some_and(|wait| wait > 0) {
        Need::Not
    } else {
        Need::Soon
    }
}

impl Credentials {
    /// The token of a version, and how long it is valid.
    pub(super) async fn token(
        &self,
        team: &str,
        name: &str,
        version: i32,
    ) -> Result<(Text, Duration), Error> {
        let slot = Slot { team: team.to_owned(), name: name.to_owned(), version };
        let live = self.live(&slot).await?;
        match need(&live) {
            Need::Not => return self.give(&slot, &live),
            Need::Soon => {
                // Whoever comes first renews it, and nobody waits.
                if let Ok(alone) = self.0.flights.of(&slot).try_lock_owned() {
                    let (this, slot) = (self.clone(), slot.clone());
                    self.0.tasks.spawn(async move {
                        let renewed = this.renew(&slot, this.times()).await;
                        drop(alone);
                        tracing::debug!(renewed = renewed.is_ok(), "a token was to be renewed");
                    });
                }
                return self.give(&slot, &live);
            }
            Need::Now => {}
        }
        let this = self.clone();
        self.detached(async move {
            let flight = this.0.flights.of(&slot);
            let _alone = flight.lock().await;
            this.renew(&slot, this.times()).await
        })
        .await
    }

    /// Fetches a first token with a version, to see whether it works.
    pub(super) async fn try_out(&self, team: &str, name: &str, version: i32) -> Result<(), Error> {
        let slot = Slot { team: team.to_owned(), name: name.to_owned(), version };
        self.renew(&slot, self.times()).await.map(drop)
    }

    /// The same, by those who wait for another process so long only.
    #[cfg(test)]
    pub(crate) async fn try_out_within(
        &self,
        (team, name, version): (&str, &str, i32),
        wait: Duration,
    ) -> Result<(), Error> {
        let slot = Slot { team: team.to_owned(), name: name.to_owned(), version };
        self.renew(&slot, Times { wait, ..self.times() }).await.map(drop)
    }

    fn times(&self) -> Times {
        Times::of(self.0.outside.timeout())
    }

    async fn live(&self, slot: &Slot) -> Result<LiveVersion, Error> {
        let pool = self.0.database.pool()?;
        let live = store::version_live(pool, &slot.team, &slot.name, Some(slot.version)).await?;
        let found = live.into_iter().find(|live| live.version == slot.version);
        found.ok_or_else(|| unavailable(slot, &format!("version {} has ended", slot.version), None))
    }

    fn open(&self, slot: &Slot, live: &LiveVersion) -> Result<(Opened, super::Kind), Error> {
        let kind = sealed::kind(&live.kind)?;
        let owner = Owner { team: &slot.team, name: &slot.name, version: slot.version, kind };
        Ok((sealed::open(&*self.keys_for(&live.key_id)?, owner, live)?, kind))
    }

    fn give(&self, slot: &Slot, live: &LiveVersion) -> Result<(Text, Duration), Error> {
        let (opened, kind) = self.open(slot, live)?;
        let owner = Owner { team: &slot.team, name: &slot.name, version: slot.version, kind };
        let token = opened.open_token(owner, live.token.as_deref().unwrap_or_default())?;
        Ok((token, millis(live.token_left_ms.unwrap_or(0))))
    }

    /// Fetches a token, or waits for the process that does.
    async fn renew(&self, slot: &Slot, times: Times) -> Result<(Text, Duration), Error> {
        let deadline = Instant::now() + times.wait;
        loop {
            let live = self.live(slot).await?;
            if need(&live) == Need::Not {
                return self.give(slot, &live);
            }
            if let Some(wait) = live.fetch_wait_ms.filter(|wait| *wait > 0) {
                return Err(unavailable(slot, &live.fetch_error, Some(millis(wait))));
            }
            let fetch = types::new_id();
            let end = Instant::now() + times.fetch;
            if store::token_claim(self.0.database.pool()?, slot.key(), fetch, times.claim).await? {
                self.fetch(slot, (fetch, end)).await?;
            } else if Instant::now() > deadline {
                let why = "another process fetches its token and does not end";
                return Err(unavailable(slot, why, Some(PATIENCE)));
            } else {
                tokio::time::sleep(POLL).await;
            }
        }
    }

    /// Fetches a token and keeps it, by the end that its claim has.
    async fn fetch(&self, slot: &Slot, (fetch, end): (Uuid, Instant)) -> Result<(), Error> {
        // Read after the claim: the process that had it before may have replaced the refresh token.
        let live = self.live(slot).await?;
        let (opened, kind) = self.open(slot, &live)?;
        let owner = Owner { team: &slot.team, name: &slot.name, version: slot.version, kind };
        match oauth::fetch(&self.0.outside, &opened.plain.secret).await {
            Ok(grant) => self.keep_grant(slot, (fetch, end), opened, owner, grant).await,
            Err(refusal) => self.keep_refusal(slot, fetch, &live, refusal).await,
        }
    }

    async fn keep_grant(
        &self,
        slot: &Slot,
        (fetch, end): (Uuid, Instant),
        mut opened: Opened,
        owner: Owner<'_>,
        grant: Grant,
    ) -> Result<(), Error> {
        let token = opened.seal_token(owner, &grant.token)?;
        let mut replaced = None;
        if let Some(refresh_token) = grant.refresh_token {
            opened.plain.replace(refresh_token);
            replaced = Some(opened.reseal(owner)?);
        }
        let kept = loop {
            let kept = match self.0.database.pool() {
                Ok(pool) => {
                    store::token_keep(pool, slot.key(), fetch, (&token, grant.life), replaced.as_deref())
                        .await
                }
                Err(error) => Err(error),
            };
            match kept {
                // What was replaced is lost with this process, and not with a moment of the database's.
                Err(error) if Instant::now() < end => {
                    tracing::warn!(%error, credential = slot.name, "a token cannot be kept yet");
                    tokio::time::sleep(FIRST_PAUSE).await;
                }
                other => break other?,
            }
        };
        if !kept {
            return Err(unavailable(slot, &format!("version {} has ended", slot.version), None));
        }
        let (version, replaced) = (slot.version, replaced.is_some());
        tracing::info!(team = slot.team, credential = slot.name, version, replaced, "token fetched");
        Ok(())
    }

    async fn keep_refusal(
        &self,
        slot: &Slot,
        fetch: Uuid,
        live: &LiveVersion,
        refusal: Refusal,
    ) -> Result<(), Error> {
        let pause = pause(&refusal, live.fetch_failures);
        let Refusal { why, is_final, .. } = refusal;
        let version = slot.version;
        tracing::warn!(team = slot.team, credential = slot.name, version, why, "no token is given");
        store::token_fail(self.0.database.pool()?, slot.key(), fetch, &why, pause).await?;
        Err(unavailable(slot, &why, (!is_final).then_some(pause)))
    }
}

fn pause(refusal: &Refusal, failures: i32) -> Duration {
    let doubled =
        FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(u32::try_from(failures).unwrap_or(0).min(20)));
    let own = if refusal.is_final { FINAL_PAUSE } else { doubled.min(MAX_PAUSE) };
    own.max(refusal.retry_after.unwrap_or_default())
}

fn unavailable(slot: &Slot, why: &str, retry_after: Option<Duration>) -> Error {
    Error::CredentialUnavailable {
        name: slot.name.clone(),
        why: format!("gives no token: {why}"),
        retry_after,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(is_final: bool, retry_after: Option<Duration>) -> Refusal {
        Refusal { why: String::new(), is_final, retry_after }
    }

    #[test]
    fn pauses_double_and_heed_what_the_server_asks_for() {
        let seconds = |failures| pause(&refusal(false, None), failures).as_secs();
        assert_eq!([0, 1, 5, 6, 60].map(seconds), [1, 2, 32, 60, 60]);
        let asked = Some(Duration::from_secs(90));
        assert_eq!(pause(&refusal(false, asked), 0).as_secs(), 90);
        assert_eq!(pause(&refusal(true, None), 0), FINAL_PAUSE);
        assert_eq!(pause(&refusal(true, asked), 0).as_secs(), 90);
    }

    #[test]
    fn a_claim_outlasts_a_fetch_that_is_kept_and_who_waits_outlasts_two() {
        for timeout in [1, 10, 60].map(Duration::from_secs) {
            let times = Times::of(timeout);
            assert!(times.fetch >= timeout + PATIENCE && times.claim >= times.fetch + PATIENCE, "{times:?}");
            assert!(times.wait >= times.claim * 2, "{times:?}");
        }
    }

    #[test]
    fn a_token_is_renewed_ahead_of_its_end() {
        let live = |left: i64, life: i64, wait: Option<i64>| LiveVersion {
            kind: "oauth2_client".into(),
            version: 1,
            state: crate::credentials::State::Active,
            key_id: String::new(),
            wrapped_key: vec![],
            sealed: vec![],
            left_ms: None,
            token: Some(vec![]),
            token_left_ms: Some(left),
            token_life_ms: Some(life),
            fetch_wait_ms: wait,
            fetch_failures: 0,
            fetch_error: String::new(),
            unmarked: false,
        };
        assert_eq!(need(&live(60_001, 3_600_000, None)), Need::Not);
        assert_eq!(need(&live(60_000, 3_600_000, None)), Need::Soon);
        assert_eq!(need(&live(1_001, 10_000, None)), Need::Not);
        assert_eq!(need(&live(1_000, 10_000, None)), Need::Soon);
        assert_eq!(need(&live(1_000, 10_000, Some(5))), Need::Not, "it failed a moment ago");
        assert_eq!(need(&live(0, 10_000, Some(5))), Need::Now);
        let without = LiveVersion { token: None, ..live(60_001, 3_600_000, None) };
        assert_eq!(need(&without), Need::Now);
    }
}
