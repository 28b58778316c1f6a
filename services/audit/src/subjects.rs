//! The keys of data subjects: one for each end user of a team, and one for the team itself, each wrapped by a key of the
//! operator's. Names are known by their HMAC only, under a key that is derived from the team's. A key that is erased
//! must never seal again: whoever writes a record asks whether its key is still there (`store::records_insert`); and it
//! must never open again: whoever reads asks, too. A key that cannot be unwrapped concerns its own records alone.

mod cache;
mod resolved;
mod wrap;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ::store::Database;
use chrono::{DateTime, Utc};
use keyring::{Key, KeyProvider, Keys, KeysError, bound};
use uuid::Uuid;

use crate::{
    Error,
    payload::{Draft, Opener},
    store::{self, ErasedRow, RecordRow, SubjectRow},
};
use cache::Recent;
pub(crate) use resolved::{Resolved, Sealed};

/// The setting that names the file of wrapping keys.
pub(crate) const KEY_FILE: &str = "audit.key_file";
/// Opens the authenticated data of a wrapped key; another layout takes another label.
const KEY_LABEL: &[u8] = b"toolcrib trail subject 1";
/// Opens the authenticated data of a name that is kept for people.
const NAME_LABEL: &[u8] = b"toolcrib trail name 1";
/// From which the key of names is derived.
const DIGEST_LABEL: &[u8] = b"toolcrib trail user digests 1";
/// Keys held in memory, in each of the two ways to find one.
const MOST: usize = 16_384;

/// The data subjects of every team. Cheap to clone.
#[derive(Clone)]
#[allow(missing_debug_implementations, reason = "holds keys")]
pub(crate) struct Subjects(Arc<Inner>);

struct Inner {
    database: Database,
    keys: KeyProvider,
    /// By team and digest of the name.
    by_name: Mutex<Recent<(String, Vec<u8>), Subject>>,
    /// By pseudonym: saves unwrapping, and never tells that a key is still there.
    by_id: Mutex<Recent<Uuid, Key>>,
    /// Subjects of whom the log was told lately that their key cannot be unwrapped.
    told: Mutex<Recent<Uuid, ()>>,
}

/// A subject whose key is there, as far as this process knows.
#[derive(Clone)]
pub(crate) struct Live {
    pub id: Uuid,
    pub key: Key,
}

/// What is known of a name.
#[derive(Clone, Default)]
pub(crate) struct Subject {
    pub live: Option<Live>,
    /// When its user was erased last, and under which pseudonym.
    erased: Option<(DateTime<Utc>, Option<Uuid>)>,
    /// Why its key cannot be unwrapped.
    fault: Option<Fault>,
}

/// Why a key cannot be unwrapped, with the id of its wrapping key.
#[derive(Debug, Clone)]
enum Fault {
    /// The file does not have that one.
    Missing(String),
    /// It is another one, or what it wrapped was changed.
    Wrong(String),
}

/// A name as it is asked for: its team, and its digest; an empty one is the team itself.
type Name = (String, Vec<u8>);

impl Subject {
    /// Whether what was heard then was erased.
    fn is_late(&self, heard: DateTime<Utc>) -> bool {
        self.erased.is_some_and(|(before, _)| heard < before)
    }

    /// The key, or why there is none.
    fn opened(&self) -> Result<&Live, Error> {
        match (&self.live, &self.fault) {
            (Some(live), _) => Ok(live),
            (None, Some(fault)) => Err(fault.clone().into()),
            (None, None) => Err(Error::Sealing(Uuid::nil())),
        }
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Missing(id) => KeysError::Missing { id, setting: KEY_FILE }.into(),
            Fault::Wrong(id) => Self::WrongKey(id),
        }
    }
}

impl Subjects {
    /// With the wrapping keys of a file. They are read when they are needed first.
    pub(crate) fn new(database: Database, key_file: &Path) -> Self {
        let (by_name, by_id) = (Mutex::new(Recent::new(MOST)), Mutex::new(Recent::new(MOST)));
        let (keys, told) = (KeyProvider::new(key_file, KEY_FILE), Mutex::new(Recent::new(MOST)));
        Self(Arc::new(Inner { database, keys, by_name, by_id, told }))
    }

    /// Reads the wrapping keys now.
    pub(crate) fn read_keys(&self) -> Result<(), Error> {
        self.0.keys.refresh()?;
        Ok(())
    }

    /// The subjects of these events, made where there are none. A key that cannot be unwrapped fails nobody but who
    /// seals under it.
    pub(crate) async fn resolve(&self, drafts: &[Draft]) -> Result<Resolved, Error> {
        let teams: BTreeSet<&str> = drafts.iter().map(|draft| draft.record.team_id.as_str()).collect();
        let teams = self.teams(&teams).await?;
        // What matters of a user's events is the newest: whether there is one that needs a key.
        let mut names: BTreeMap<(&str, &str), DateTime<Utc>> = BTreeMap::new();
        for draft in drafts.iter().filter(|draft| !draft.payload.user.is_empty()) {
            let name = (draft.record.team_id.as_str(), draft.payload.user.as_str());
            let newest = names.entry(name).or_insert_with(|| draft.heard());
            *newest = draft.heard().max(*newest);
        }
        let mut wanted = BTreeMap::new();
        let mut users = Vec::with_capacity(names.len());
        for ((team, user), newest) in names {
            let Some(live) = teams.get(team).and_then(|subject| subject.live.as_ref()) else { continue };
            let digest = digest(&live.key, user);
            users.push(((team.to_owned(), user.to_owned()), (team.to_owned(), digest.clone())));
            wanted.insert((team.to_owned(), digest), newest);
        }
        let known = self.look_up(wanted).await?;
        let users =
            users.into_iter().map(|(user, name)| (user, known.get(&name).cloned().unwrap_or_default()));
        Ok(Resolved { teams, users: users.collect() })
    }

    /// The pseudonym that this event's user has as far as this process knows, made where there is none; `None`: the
    /// event is from before their erasure.
    pub(crate) async fn live(&self, draft: &Draft) -> Result<Option<Uuid>, Error> {
        Ok(self.resolve(std::slice::from_ref(draft)).await?.seal(draft)?.under)
    }

    /// Forgets subjects whose keys are not there any more.
    pub(crate) fn forget(&self, ids: &[Uuid]) {
        let is_one = |subject: &Subject| subject.live.as_ref().is_some_and(|live| ids.contains(&live.id));
        self.by_name().retain(|subject| !is_one(subject));
        let mut by_id = self.by_id();
        for id in ids {
            by_id.remove(id);
        }
    }

    /// What a user is known by in the database.
    pub(crate) async fn digest(&self, team: &str, user: &str) -> Result<Vec<u8>, Error> {
        Ok(digest(&self.team(team).await?.key, user))
    }

    /// The pseudonym that a user has now; `None`: the trail knows nobody of this name.
    pub(crate) async fn find(&self, team: &str, user: &str) -> Result<Option<Uuid>, Error> {
        let digest = self.digest(team, user).await?;
        let mut connection = self.0.database.pool()?.acquire().await.map_err(::store::Error::from)?;
        let rows = store::subjects_find(&mut connection, &[(team, &digest)]).await?;
        Ok(rows.first().map(|row| row.subject_id))
    }

    /// Seals a name that is kept for people, for the row of this id.
    pub(crate) async fn seal_name(&self, team: &str, id: Uuid, name: &str) -> Result<Vec<u8>, Error> {
        let binding = bound(&[NAME_LABEL, team.as_bytes(), id.as_bytes()]);
        self.team(team).await?.key.seal(&binding, name.as_bytes()).ok_or(Error::Sealing(id))
    }

    /// A name that was sealed for the row of this id.
    pub(crate) async fn open_name(&self, team: &str, id: Uuid, sealed: &[u8]) -> Result<String, Error> {
        let binding = bound(&[NAME_LABEL, team.as_bytes(), id.as_bytes()]);
        let plain = self.team(team).await?.key.open(&binding, sealed).ok_or(Error::Sealing(id))?;
        String::from_utf8(plain.to_vec()).map_err(|_| Error::Sealing(id))
    }

    /// The keys of these records: of subjects, those that are in the database still, whatever this process remembers.
    pub(crate) async fn opener(&self, records: &[RecordRow]) -> Result<Opener, Error> {
        let sealed = || records.iter().filter(|record| record.payload.is_some());
        let of_teams = sealed().filter(|record| record.subject_id.is_none());
        let teams: BTreeSet<&str> = of_teams.map(|record| record.team_id.as_str()).collect();
        let mut opener = Opener::default();
        for (team, subject) in self.teams(&teams).await? {
            opener.add_team(&team, subject.opened()?.key.clone());
        }
        let subjects: BTreeMap<Uuid, &str> =
            sealed().filter_map(|record| Some((record.subject_id?, record.team_id.as_str()))).collect();
        if subjects.is_empty() {
            return Ok(opener);
        }
        let (ids, teams): (Vec<Uuid>, Vec<&str>) = subjects.into_iter().unzip();
        for row in store::subjects_get(self.0.database.pool()?, &teams, &ids).await? {
            let remembered = self.by_id().get(&row.subject_id);
            let key = if let Some(key) = remembered {
                key
            } else {
                let key = self.try_unwrap(&row)??;
                self.by_id().put(row.subject_id, key.clone());
                key
            };
            opener.add_subject(row.subject_id, key);
        }
        Ok(opener)
    }

    /// What records are shown as.
    pub(crate) async fn events(
        &self,
        records: Vec<RecordRow>,
    ) -> Result<Vec<proto::audit::v1::Event>, Error> {
        let opener = self.opener(&records).await?;
        records.into_iter().map(|record| crate::payload::open_event(&opener, record)).collect()
    }

    /// The key of a team.
    async fn team(&self, team: &str) -> Result<Live, Error> {
        let found = self.teams(&BTreeSet::from([team])).await?.remove(team).unwrap_or_default();
        found.opened().cloned()
    }

    async fn teams(&self, teams: &BTreeSet<&str>) -> Result<HashMap<String, Subject>, Error> {
        let wanted = teams.iter().map(|team| (((*team).to_owned(), Vec::new()), DateTime::<Utc>::MAX_UTC));
        let known = self.look_up(wanted.collect()).await?;
        Ok(known.into_iter().map(|((team, _), subject)| (team, subject)).collect())
    }

    /// What there is of these names. One that has no subject gets one, unless all that it is needed for was heard
    /// before its erasure.
    async fn look_up(
        &self,
        mut wanted: BTreeMap<Name, DateTime<Utc>>,
    ) -> Result<HashMap<Name, Subject>, Error> {
        let mut known = HashMap::with_capacity(wanted.len());
        {
            let mut by_name = self.by_name();
            wanted.retain(|name, _| {
                let Some(subject) = by_name.get(name) else { return true };
                known.insert(name.clone(), subject);
                false
            });
        }
        if wanted.is_empty() {
            return Ok(known);
        }
        let pool = self.0.database.pool()?;
        let mut connection = pool.acquire().await.map_err(::store::Error::from)?;
        let mut found = self.read(&mut connection, wanted.keys()).await?;
        if wanted.iter().any(|(name, newest)| needs_key(found.get(name), *newest)) {
            found = self.make(&mut connection, &wanted).await?;
        }
        for (name, subject) in &found {
            if let Some(live) = &subject.live {
                self.by_name().put(name.clone(), subject.clone());
                self.by_id().put(live.id, live.key.clone());
            }
        }
        known.extend(found);
        Ok(known)
    }

    /// Reads what there is.
    async fn read(
        &self,
        connection: &mut store::Connection,
        names: impl Iterator<Item = &Name>,
    ) -> Result<HashMap<Name, Subject>, Error> {
        let names: Vec<(&str, &[u8])> =
            names.map(|(team, digest)| (team.as_str(), digest.as_slice())).collect();
        let rows = store::subjects_find(connection, &names).await?;
        let erased = store::erased_find(connection, &names).await?;
        let mut found: HashMap<Name, Subject> = HashMap::with_capacity(rows.len());
        for row in rows {
            let subject = match self.try_unwrap(&row)? {
                Ok(key) => Subject { live: Some(Live { id: row.subject_id, key }), ..Subject::default() },
                Err(fault) => {
                    self.tell(&row, &fault);
                    Subject { fault: Some(fault), ..Subject::default() }
                }
            };
            found.insert((row.team_id, row.user_digest), subject);
        }
        // Oldest first: the newest stays.
        for ErasedRow { team_id, user_digest, subject_id, request_time } in erased {
            found.entry((team_id, user_digest)).or_default().erased = Some((request_time, subject_id));
        }
        Ok(found)
    }

    /// Makes the subjects that are not there, and reads again what there is then.
    async fn make(
        &self,
        connection: &mut store::Connection,
        wanted: &BTreeMap<Name, DateTime<Utc>>,
    ) -> Result<HashMap<Name, Subject>, Error> {
        let mut transaction = store::begin(connection).await?;
        // Nobody erases a team; and who holds its lock may need its key.
        let users = wanted.keys().filter(|(_, digest)| !digest.is_empty());
        let teams: Vec<&str> = users.map(|(team, _)| team.as_str()).collect();
        store::subjects_lock_in_txn(&mut transaction, &teams).await?;
        let found = self.read(&mut transaction, wanted.keys()).await?;
        let keys = self.0.keys.keys()?;
        let missing = wanted.iter().filter(|(name, newest)| needs_key(found.get(*name), **newest));
        let rows = missing.map(|(name, _)| new_row(&keys, name)).collect::<Result<Vec<_>, _>>()?;
        store::subjects_add_in_txn(&mut transaction, &rows).await?;
        let found = self.read(&mut transaction, wanted.keys()).await?;
        transaction.commit().await.map_err(::store::Error::from)?;
        Ok(found)
    }

    /// Tells the log, now and then, whose key cannot be unwrapped.
    fn tell(&self, row: &SubjectRow, fault: &Fault) {
        let mut told = self.0.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.get(&row.subject_id).is_none() {
            told.put(row.subject_id, ());
            let (team, subject) = (&row.team_id, row.subject_id);
            tracing::error!(team.id = team, subject.id = %subject, ?fault, "a key of the trail cannot be unwrapped");
        }
    }

    fn by_name(&self) -> MutexGuard<'_, Recent<Name, Subject>> {
        self.0.by_name.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn by_id(&self) -> MutexGuard<'_, Recent<Uuid, Key>> {
        self.0.by_id.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether something that was heard then at the latest has no key to be sealed under, and needs one.
fn needs_key(subject: Option<&Subject>, newest: DateTime<Utc>) -> bool {
    subject
        .is_none_or(|subject| subject.live.is_none() && subject.fault.is_none() && !subject.is_late(newest))
}

/// A subject with a new key and a new pseudonym.
fn new_row(keys: &Keys, (team, digest): &Name) -> Result<SubjectRow, Error> {
    let (key_id, wrapping) = keys.newest();
    // Of no order, so that nothing can be told from a pseudonym.
    let subject_id = Uuid::new_v4();
    let wrapped = Key::random().wrap(&key_binding(team, subject_id, key_id), wrapping);
    Ok(SubjectRow {
        team_id: team.clone(),
        subject_id,
        user_digest: digest.clone(),
        key_id: key_id.to_owned(),
        wrapped_key: wrapped.ok_or(Error::Sealing(subject_id))?,
    })
}

/// What the wrapped key of a subject belongs to.
fn key_binding(team: &str, subject: Uuid, key_id: &str) -> Vec<u8> {
    bound(&[KEY_LABEL, team.as_bytes(), subject.as_bytes(), key_id.as_bytes()])
}

/// HMAC-SHA-256 of a name, under a key of its own that follows from the team's.
fn digest(team: &Key, user: &str) -> Vec<u8> {
    let derived: [u8; 32] = team.digest(DIGEST_LABEL).try_into().unwrap_or_default();
    Key::new(derived).digest(user.as_bytes())
}
