//! Connections to gRPC servers: one for each team, address and set of credentials, shared by its calls. Bounded, and
//! those that nobody uses end. Two teams never share one.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex as StdMutex, PoisonError, Weak},
    time::{Duration, Instant},
};

use ::grpc::{Connection, Error, Security};
use reach::{Authorities, Guard, Reach};
use tokio::sync::Mutex;

/// A connection that is not used for this long ends.
const IDLE: Duration = Duration::from_mins(5);
/// How often that is looked at.
const SWEEP: Duration = Duration::from_mins(1);
/// Most connections; with more, the one that was not used for longest ends.
const MAX_CONNECTIONS: usize = 256;

/// What calls over one connection have in common.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub team: String,
    pub endpoint: String,
    pub may_reach_any: bool,
    /// Names and versions of the credentials.
    pub credentials: String,
}

#[derive(Debug)]
struct Slot {
    /// `None` until it stands; held while it is made, so that calls at once make one.
    connection: Arc<Mutex<Option<Connection>>>,
    used: Instant,
}

/// The connections.
#[derive(Debug, Default)]
pub(super) struct Pool {
    authorities: Authorities,
    slots: StdMutex<HashMap<Key, Slot>>,
}

impl Pool {
    /// Takes certificates of these authorities besides those that the system trusts.
    pub(super) fn new(authorities: Authorities) -> Self {
        Self { authorities, ..Self::default() }
    }

    /// The connection for this key, made within a time where there is none.
    pub(super) async fn connection(
        self: &Arc<Self>,
        key: &Key,
        security: &Security,
        within: Duration,
    ) -> Result<Connection, Error> {
        let slot = self.slot(key);
        let connect = async {
            let mut connection = slot.lock().await;
            if let Some(known) = connection.as_ref() {
                return Ok(known.clone());
            }
            let guard = Guard::system(if key.may_reach_any { Reach::Any } else { Reach::PUBLIC });
            let guard = guard.trusting(&self.authorities);
            let made = Connection::open(&key.endpoint, guard, security, within).await?;
            *connection = Some(made.clone());
            Ok(made)
        };
        // Another call may be making it for longer than this one has.
        tokio::time::timeout(within, connect).await.unwrap_or(Err(Error::NotInTime))
    }

    /// Lets the next call make a connection anew. Calls under way keep theirs.
    pub(super) fn forget(&self, key: &Key) {
        self.lock().remove(key);
    }

    pub(super) fn clear(&self) {
        self.lock().clear();
    }

    fn slot(self: &Arc<Self>, key: &Key) -> Arc<Mutex<Option<Connection>>> {
        let mut slots = self.lock();
        if let Some(slot) = slots.get_mut(key) {
            slot.used = Instant::now();
            return Arc::clone(&slot.connection);
        }
        if slots.is_empty() {
            tokio::spawn(sweep(Arc::downgrade(self)));
        }
        if slots.len() >= MAX_CONNECTIONS {
            let oldest = slots.iter().min_by_key(|(_, slot)| slot.used).map(|(key, _)| key.clone());
            oldest.and_then(|oldest| slots.remove(&oldest));
        }
        let connection = Arc::new(Mutex::new(None));
        slots.insert(key.clone(), Slot { connection: Arc::clone(&connection), used: Instant::now() });
        connection
    }

    /// Ends what is idle; says whether anything is left.
    fn end_idle(&self, idle: Duration) -> bool {
        let mut slots = self.lock();
        slots.retain(|_, slot| slot.used.elapsed() < idle);
        !slots.is_empty()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs while there are connections.
async fn sweep(pool: Weak<Pool>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        if !pool.upgrade().is_some_and(|pool| pool.end_idle(IDLE)) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(team: &str, credentials: &str) -> Key {
        let (endpoint, may_reach_any) = ("http://127.0.0.1:1".to_owned(), true);
        Key { team: team.into(), endpoint, may_reach_any, credentials: credentials.into() }
    }

    #[tokio::test]
    async fn teams_and_credentials_share_no_connection_and_idle_ones_end() {
        let pool: Arc<Pool> = Arc::default();
        let slots = [key("a", "k@1"), key("b", "k@1"), key("a", "k@2")].map(|key| pool.slot(&key));
        assert!(!Arc::ptr_eq(&slots[0], &slots[1]) && !Arc::ptr_eq(&slots[0], &slots[2]));
        assert!(Arc::ptr_eq(&slots[0], &pool.slot(&key("a", "k@1"))));
        assert!(pool.end_idle(Duration::from_mins(1)));
        assert_eq!(pool.lock().len(), 3);
        assert!(!pool.end_idle(Duration::ZERO));
        assert!(pool.lock().is_empty());
    }

    #[tokio::test]
    async fn there_are_never_more_than_so_many_and_the_oldest_goes() {
        let pool: Arc<Pool> = Arc::default();
        for team in 0..=MAX_CONNECTIONS {
            pool.slot(&key(&team.to_string(), ""));
        }
        assert_eq!(pool.lock().len(), MAX_CONNECTIONS);
        assert!(!pool.lock().contains_key(&key("0", "")) && pool.lock().contains_key(&key("1", "")));
    }
}
