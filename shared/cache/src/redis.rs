//! Entries in Redis, shared by all processes and readable only with the key. Must never fail or delay a call
//! because Redis is away, put arguments, scopes or results there in the clear, or find what was invalidated.
//!
//! Three keys an entry, all under the team's hash tag, so that a Cluster keeps them in one slot:
//!
//! - `cache:{TEAM}:tool:TOOL`: the tool's generation (random) and its epoch, which counts invalidations of
//!   arguments;
//! - `cache:{TEAM}:mark:TOOL:DIGEST`: a random mark of one set of arguments, over all scopes and versions;
//! - `cache:{TEAM}:entry:TOOL:DIGEST`: the sealed entry, with the generation and the mark it was put under.
//!
//! An entry counts while both still stand as it says. An invalidation deletes one key, however many entries
//! there are. A key that Redis evicts, or forgets in a restart, makes misses: it never brings an old entry
//! back.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use store::{RedisError, Script};

use crate::{
    Cached, Found, Key, Life, Limits, Statistics, Ticket,
    cache::found,
    entry::Stamp,
    key::{joined, tool_id},
    seal::{Sealer, millis},
};

/// How long Redis remembers a tool that is used but has no entry, in ms: longer than any call takes.
const TOOL_MS: &str = "7200000";
/// Tools with an invalidation that Redis has not been told yet.
const MAX_UNTOLD: usize = 100_000;

/// KEYS: tool, mark, entry. ARGV: generation if there is none, life of the tool's key.
const GET: &str = r"
local tool = redis.call('HMGET', KEYS[1], 'generation', 'epoch')
if not tool[1] then
  tool = {ARGV[1], '0'}
  redis.call('HSET', KEYS[1], 'generation', tool[1], 'epoch', tool[2])
end
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[2]) / 2 then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
local entry = redis.call('HMGET', KEYS[3], 'generation', 'mark', 'sealed')
if entry[1] == tool[1] and entry[2] and entry[2] == redis.call('GET', KEYS[2]) then
  return {tool[1], tool[2], entry[3], redis.call('PTTL', KEYS[3])}
end
return {tool[1], tool[2], false, 0}
";

/// KEYS: tool, mark, entry. ARGV: generation, epoch, mark if there is none, sealed entry, its life in ms.
const PUT: &str = r"
local tool = redis.call('HMGET', KEYS[1], 'generation', 'epoch')
if tool[1] ~= ARGV[1] or tool[2] ~= ARGV[2] then
  return 0
end
local life = tonumber(ARGV[5])
local mark = redis.call('GET', KEYS[2])
if not mark then
  mark = ARGV[3]
  redis.call('SET', KEYS[2], mark, 'PX', life)
elseif redis.call('PTTL', KEYS[2]) < life then
  redis.call('PEXPIRE', KEYS[2], life)
end
if redis.call('PTTL', KEYS[1]) < life then
  redis.call('PEXPIRE', KEYS[1], life)
end
redis.call('HSET', KEYS[3], 'generation', tool[1], 'mark', mark, 'sealed', ARGV[4])
redis.call('PEXPIRE', KEYS[3], life)
return 1
";

/// What `GET` answers: generation, epoch, the sealed entry if it counts, and the ms left of its life.
type Reply = (u64, u64, Option<Vec<u8>>, i64);

/// KEYS: tool, mark.
const INVALIDATE_ARGUMENTS: &str = r"
redis.call('DEL', KEYS[2])
if redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('HINCRBY', KEYS[1], 'epoch', 1)
end
return 1
";

/// KEYS: a key of the team, so that a Cluster asks the right node. ARGV: where to go on, pattern of the team's keys.
/// Gives where to go on, 0 at the end, and how many entries went.
const REMOVE_TEAM: &str = r"
local found = redis.call('SCAN', ARGV[1], 'MATCH', ARGV[2], 'COUNT', 1000)
local entries = 0
for _, key in ipairs(found[2]) do
  if redis.call('UNLINK', key) == 1 and string.find(key, '}:entry:', 1, true) then
    entries = entries + 1
  end
end
return {found[1], entries}
";

/// A cache in Redis. Clones share it.
#[derive(Clone)]
pub struct Redis {
    inner: Arc<Inner>,
}

struct Inner {
    handle: store::Redis,
    scripts: Scripts,
    sealer: Sealer,
    max_entry_bytes: usize,
    statistics: Statistics,
    /// By tool: the key to be deleted, and which invalidation asked for it last.
    untold: Mutex<HashMap<String, (String, u64)>>,
    invalidations: AtomicU64,
}

struct Scripts {
    get: Script,
    put: Script,
    invalidate_arguments: Script,
    remove_team: Script,
}

impl Redis {
    /// A cache over this Redis, sealed under `key`.
    pub fn new(handle: store::Redis, key: &[u8; 32], limits: Limits) -> Self {
        let scripts = Scripts {
            get: Script::new(GET),
            put: Script::new(PUT),
            invalidate_arguments: Script::new(INVALIDATE_ARGUMENTS),
            remove_team: Script::new(REMOVE_TEAM),
        };
        let inner = Inner {
            handle,
            scripts,
            sealer: Sealer::new(key),
            max_entry_bytes: limits.max_entry_bytes,
            statistics: Statistics::default(),
            untold: Mutex::default(),
            invalidations: AtomicU64::new(0),
        };
        Self { inner: Arc::new(inner) }
    }

    pub(crate) fn statistics(&self) -> &Statistics {
        &self.inner.statistics
    }

    pub(crate) async fn read(&self, key: &Key) -> (Option<Found>, Ticket) {
        let inner = &self.inner;
        if !inner.told(&key.tool_id()).await {
            return (None, Ticket::NONE);
        }
        let generation = rand::random::<u64>().to_string();
        let arguments = &[generation.as_str(), TOOL_MS];
        match inner.handle.eval::<Reply>(&inner.scripts.get, &names(key), arguments).await {
            Ok((generation, epoch, sealed, left_ms)) => {
                let found = sealed.and_then(|sealed| inner.open(key, &sealed, left_ms));
                (found, Ticket(Some(Stamp { generation, epoch })))
            }
            Err(error) => {
                tell("get", &error);
                (None, Ticket::NONE)
            }
        }
    }

    pub(crate) async fn put(&self, key: &Key, value: &Cached, life: Life, ticket: Ticket) -> bool {
        let inner = &self.inner;
        let Some(Stamp { generation, epoch }) = ticket.0 else { return false };
        if value.json().len() > inner.max_entry_bytes || !inner.told(&key.tool_id()).await {
            return false;
        }
        let Some(sealed) = inner.sealer.seal(key, value, life) else { return false };
        let arguments = [
            generation.to_string().into_bytes(),
            epoch.to_string().into_bytes(),
            rand::random::<u64>().to_string().into_bytes(),
            sealed,
            millis(life.total()).max(1).to_string().into_bytes(),
        ];
        let kept = inner.handle.eval::<u8>(&inner.scripts.put, &names(key), &arguments[..]).await;
        kept.inspect_err(|error| tell("put", error)).is_ok_and(|kept| kept == 1)
    }

    pub(crate) async fn invalidate(&self, team: &str, tool: &str, arguments_digest: Option<&str>) -> bool {
        let inner = &self.inner;
        let keys: Vec<String> =
            [Some(tool_name(team, tool)), arguments_digest.map(|digest| mark_name(team, tool, digest))]
                .into_iter()
                .flatten()
                .collect();
        let done = match arguments_digest {
            None => inner.forget(&keys[0]).await,
            Some(_) => inner.handle.eval::<()>(&inner.scripts.invalidate_arguments, &keys, &[""; 0]).await,
        };
        done.inspect_err(|error| {
            tell("invalidate", error);
            inner.remember_untold(tool_id(team, tool), keys[0].clone());
        })
        .is_ok()
    }

    /// Deletes every key of a team; what is being put finds its tool's generation gone. `None` when Redis is away, with
    /// what was deleted until then.
    pub(crate) async fn remove_team(&self, team: &str) -> Option<u64> {
        let (inner, keys) = (&self.inner, [tool_name(team, "")]);
        // No character of a plain word has a meaning in a pattern.
        let pattern = format!("cache:{{{}}}:*", plain(team));
        let (mut next, mut removed) = ("0".to_owned(), 0);
        loop {
            let arguments = &[next.as_str(), pattern.as_str()];
            let done = inner.handle.eval::<(String, u64)>(&inner.scripts.remove_team, &keys, arguments).await;
            let (go_on, entries) = done.inspect_err(|error| tell("remove", error)).ok()?;
            removed += entries;
            if go_on == "0" {
                return Some(removed);
            }
            next = go_on;
        }
    }
}

impl Inner {
    fn open(&self, key: &Key, sealed: &[u8], left_ms: i64) -> Option<Found> {
        let (value, life) = self.sealer.open(key, sealed)?;
        // Redis counts what is left of the whole life; no clock of a process comes into it.
        let left = Duration::from_millis(u64::try_from(left_ms).ok()?);
        found(value, life.total().saturating_sub(left), life)
    }

    fn lock_untold(&self) -> MutexGuard<'_, HashMap<String, (String, u64)>> {
        self.untold.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a new generation of a tool, by forgetting the present one.
    async fn forget(&self, tool_name: &str) -> Result<(), RedisError> {
        self.handle.run(redis::cmd("DEL").arg(tool_name)).await
    }

    /// An invalidation that failed is made up for before the tool is looked up again, for the whole tool.
    fn remember_untold(&self, tool_id: String, name: String) {
        let number = self.invalidations.fetch_add(1, Ordering::Relaxed);
        let mut untold = self.lock_untold();
        if untold.len() < MAX_UNTOLD || untold.contains_key(&tool_id) {
            untold.insert(tool_id, (name, number));
        }
    }

    /// Whether Redis knows every invalidation of this tool that this process made.
    async fn told(&self, tool_id: &str) -> bool {
        let Some((name, number)) = self.lock_untold().get(tool_id).cloned() else { return true };
        if self.forget(&name).await.is_err() {
            return false;
        }
        let mut untold = self.lock_untold();
        let newest = untold.get(tool_id).is_none_or(|(_, newest)| *newest == number);
        if newest {
            untold.remove(tool_id);
        }
        newest
    }
}

/// The handle itself tells of outages; here only what is our own fault is worth a warning.
fn tell(what: &str, error: &RedisError) {
    match error {
        RedisError::Unavailable(_) => tracing::debug!(operation = what, %error, "cache is away"),
        RedisError::Invalid(_) | RedisError::Refused(_) => {
            tracing::warn!(operation = what, error = error as &dyn std::error::Error, "cache was refused");
        }
    }
}

/// The three keys of an entry.
fn names(key: &Key) -> [String; 3] {
    let digest = types::digest_bytes(&joined(&[&key.tool_digest, &key.scope, &key.arguments_digest]));
    [
        tool_name(&key.team, &key.tool),
        mark_name(&key.team, &key.tool, &key.arguments_digest),
        format!("cache:{{{}}}:entry:{}:{digest}", plain(&key.team), plain(&key.tool)),
    ]
}

fn tool_name(team: &str, tool: &str) -> String {
    format!("cache:{{{}}}:tool:{}", plain(team), plain(tool))
}

fn mark_name(team: &str, tool: &str, arguments_digest: &str) -> String {
    format!("cache:{{{}}}:mark:{}:{}", plain(team), plain(tool), plain(arguments_digest))
}

/// The word itself where it cannot disturb the name of a key, else its digest.
fn plain(word: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte);
    if !word.is_empty() && word.len() <= 200 && word.bytes().all(is_plain) {
        return word.to_owned();
    }
    types::digest_bytes(word.as_bytes())
}

impl fmt::Debug for Redis {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Redis").field("handle", &self.inner.handle).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn keys_of_one_entry_share_a_hash_tag_and_tell_no_scope() {
        for team in ["0198c1a2-team", "odd}team{", ""] {
            let key = Key::of(team, "a:b", "digest", "token-of-alice", &json!({"q": "secret"})).unwrap();
            let tag = |name: &str| name.split_once('{').unwrap().1.split_once('}').unwrap().0.to_owned();
            let names = names(&key);
            assert!(!tag(&names[0]).is_empty());
            for name in &names {
                assert_eq!(tag(name), tag(&names[0]));
                assert!(!name.contains("alice") && !name.contains("secret"), "{name}");
            }
        }
    }
}
