//! What every import shares: takes tools that were made of somebody's own description into the catalog, all in
//! one write, and tells what became of each. One that is wrong costs no other; a tool that belongs to somebody
//! else is never touched. Knows nothing of documents and servers.

mod plan;

use std::{collections::BTreeSet, sync::Arc};

use ::rpc::FieldViolation;
use ::store::Database;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use types::{Caller, Category, Sensitivity};

use self::plan::{Catalog, Plan};
use crate::{
    Error,
    change::Change,
    check::{self, Origin},
    definition::{Binding, Definition, Digests, Proposal},
    normalise::clean,
    rounds::Rounds,
    store::{self, NewVersion, Write},
    trail,
};

/// Most operations or methods of one import.
const MAX_CANDIDATES: usize = 10_000;
/// Most bytes that the definitions of one import may have together: about twenty times those of GitHub's.
const MAX_BYTES: usize = 128 * 1024 * 1024;
/// Bytes that a parameter is counted as, beside its schema.
const PARAMETER_BYTES: usize = 256;
/// Imports that are made at the same time: each may hold hundreds of megabytes.
const AT_ONCE: usize = 2;
/// Bytes of definitions that one statement writes.
const BATCH_BYTES: usize = 8 * 1024 * 1024;
/// Longest note, in characters.
const MAX_NOTE: usize = 1_000;
/// Most characters of an operation that the trail is told.
const MAX_SOURCE: usize = 200;
/// Capability of tools for which none is given.
const CAPABILITY: &str = "integrate";

/// What is assumed of imported tools where their source does not say. 0: the default of every tool.
#[derive(Debug, Clone, Default)]
pub(crate) struct Defaults {
    pub category: Option<Category>,
    pub capabilities: Vec<String>,
    pub sensitivity: Option<Sensitivity>,
    pub timeout_ms: i64,
    pub rate_limit_per_minute: i32,
    /// Whether what the source says of its effects is believed: that GET only reads, or a gRPC method's own word.
    pub trust_effects: bool,
}

impl Defaults {
    /// Notes what is wrong with them, as fields below `defaults`.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let mut found = Vec::new();
        let mut add = |field: &str, description: String| {
            found.push(FieldViolation { field: format!("defaults.{field}"), description });
        };
        if self.capabilities.len() > check::MAX_WORDS {
            add("capabilities", format!("has more than {}", check::MAX_WORDS));
        }
        for word in self.capabilities.iter().filter(|word| !check::is_word(word)) {
            add("capabilities", format!("{word:?} must be 1 to 64 characters of a-z, 0-9, _ and -"));
        }
        if !check::is_timeout(self.timeout_ms) {
            add("timeout_ms", "must be 1,000 to 300,000, or 0 for 30,000".to_owned());
        }
        if self.rate_limit_per_minute < 0 {
            add("rate_limit_per_minute", "is negative; at least 1 a minute, or 0 for 60".to_owned());
        }
        if found.is_empty() { Ok(()) } else { Err(Error::Invalid(found)) }
    }

    /// Fills in what a proposal does not say.
    pub(crate) fn fill(&self, mut proposal: Proposal) -> Proposal {
        proposal.category = proposal.category.or(self.category).or(Some(Category::ApiIntegration));
        if proposal.capabilities.is_empty() {
            proposal.capabilities = match self.capabilities.as_slice() {
                [] => vec![CAPABILITY.to_owned()],
                given => given.to_vec(),
            };
        }
        proposal.sensitivity = proposal.sensitivity.or(self.sensitivity);
        if proposal.timeout_ms == 0 {
            proposal.timeout_ms = self.timeout_ms;
        }
        if proposal.rate_limit_per_minute == 0 {
            proposal.rate_limit_per_minute = self.rate_limit_per_minute;
        }
        proposal
    }
}

/// Lets a few imports be made at a time; the others wait.
#[derive(Debug, Clone)]
pub(crate) struct Turns(Arc<Semaphore>);

/// The leave to make an import. Whatever thread does its work holds it, even when nobody waits for the answer any more.
#[derive(Debug)]
pub(crate) struct Turn {
    _permit: OwnedSemaphorePermit,
}

impl Default for Turns {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(AT_ONCE)))
    }
}

impl Turns {
    /// Waits for a turn.
    pub(crate) async fn next(&self) -> Turn {
        let permit = Arc::clone(&self.0).acquire_owned().await;
        Turn { _permit: permit.expect("nobody closes the semaphore") }
    }
}

/// What the candidates of one import may come to.
#[derive(Debug, Default)]
pub(crate) struct Room {
    bytes: usize,
}

impl Room {
    /// Whether there is room for so many candidates, before any of them is made.
    pub(crate) fn check_count(count: usize) -> Result<(), Error> {
        if count <= MAX_CANDIDATES {
            return Ok(());
        }
        let told = format!("has {count} operations; at most {MAX_CANDIDATES} are taken at once");
        Err(Error::invalid("source", told))
    }

    /// Counts a candidate that was made.
    pub(crate) fn take(&mut self, candidate: &Candidate) -> Result<(), Error> {
        self.bytes += candidate.bytes();
        if self.bytes <= MAX_BYTES {
            return Ok(());
        }
        let told = format!("has tools of more than {MAX_BYTES} bytes together; take fewer operations");
        Err(Error::invalid("source", told))
    }
}

/// One operation or method, and the tool that it would become.
#[derive(Debug)]
pub(crate) struct Candidate {
    /// What it is in its source, such as "GET /users/{id}" or "package.Service/Method".
    pub source: String,
    /// Name of the tool; empty where there could be none.
    pub name: String,
    /// The tool, or why there can be none.
    pub proposal: Result<Proposal, String>,
    /// What could not be kept of it; told beside the result.
    pub notes: Vec<String>,
}

impl Candidate {
    /// About how many bytes its tool has.
    fn bytes(&self) -> usize {
        let own = self.source.len() + self.name.len();
        let proposal = match &self.proposal {
            Ok(proposal) => proposal,
            Err(reason) => return own + reason.len(),
        };
        let binding = match &proposal.binding {
            Some(Binding::Http(http)) => {
                let headers = http.headers.iter().map(|(name, value)| name.len() + value.len());
                headers.sum::<usize>() + http.parameters.len() * PARAMETER_BYTES
            }
            Some(Binding::Grpc(grpc)) => {
                let metadata = grpc.metadata.iter().map(|(name, value)| name.len() + value.len());
                grpc.descriptor_set.len() + grpc.service.len() + metadata.sum::<usize>()
            }
            Some(Binding::Mcp(_) | Binding::Builtin(_)) | None => 0,
        };
        own + proposal.input_schema.len() + proposal.output_schema.len() + binding
    }
}

/// What became of a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Created,
    Updated,
    Unchanged,
    Refused,
}

/// A candidate, and what became of it.
#[derive(Debug)]
pub(crate) struct Imported {
    pub name: String,
    pub source: String,
    pub outcome: Outcome,
    /// The tool's version; empty where it was refused.
    pub version: String,
    /// Why it was refused, or what could not be kept; empty: nothing to say.
    pub note: String,
    /// How it differs from the version before.
    pub changes: Vec<Change>,
}

/// A candidate that was checked.
#[derive(Debug)]
struct Checked {
    name: String,
    source: String,
    notes: Vec<String>,
    tool: Result<(Definition, Digests), String>,
}

/// Checks each candidate and registers those that are right, for the caller's team, in one write. With `validate_only`,
/// nothing is kept, and the answer tells what would be. The answer has their order.
pub(crate) async fn keep(
    database: &Database,
    caller: &Caller,
    (turn, candidates): (Turn, Vec<Candidate>),
    validate_only: bool,
) -> Result<Vec<Imported>, Error> {
    // Compiling hundreds of schemas takes seconds.
    let (turn, checked) = tokio::task::spawn_blocking(move || (turn, check_all(candidates))).await?;
    settle(database, caller, (turn, checked?), validate_only, plan::decide).await
}

/// Decides with `decide`, and writes what was decided for the catalog as it is.
async fn settle<D>(
    database: &Database,
    caller: &Caller,
    (mut turn, mut checked): (Turn, Vec<Checked>),
    validate_only: bool,
    decide: D,
) -> Result<Vec<Imported>, Error>
where
    D: Fn(&Catalog, &[Checked]) -> Result<Plan, Error> + Clone + Send + 'static,
{
    let (mut planned, mut rounds): (Option<(Catalog, Plan)>, _) = (None, Rounds::default());
    loop {
        let mut write = Write::begin(database.pool()?).await?;
        let catalog = plan::read(&mut write, &caller.team, &checked).await?;
        if let Some((_, plan)) = planned.take_if(|(before, _)| *before == catalog) {
            return write_all(write, caller, plan).await;
        }
        let kept = rounds.begin(write).await?;
        let decide = decide.clone();
        let work = move || decide(&catalog, &checked).map(|plan| (turn, checked, catalog, plan));
        let (same_turn, same, before, plan) = tokio::task::spawn_blocking(work).await??;
        if validate_only || plan.versions.is_empty() {
            return Ok(plan.imported);
        }
        if let Some(write) = kept {
            return write_all(write, caller, plan).await;
        }
        (turn, checked) = (same_turn, same);
        planned = Some((before, plan));
    }
}

async fn write_all(mut write: Write, caller: &Caller, plan: Plan) -> Result<Vec<Imported>, Error> {
    let team = caller.team.as_str();
    for batch in batches(&plan.versions) {
        store::versions_insert(&mut write, team, batch).await?;
        store::tool_put(&mut write, team, None, batch).await?;
    }
    tell(&mut write, caller, &plan);
    write.commit().await?;
    tracing::info!(team, versions = plan.versions.len(), "tools were imported");
    Ok(plan.imported)
}

/// Tells the trail of each tool that changed, and of the import.
fn tell(write: &mut Write, caller: &Caller, plan: &Plan) {
    let count = |outcome| plan.imported.iter().filter(|each| each.outcome == outcome).count();
    let (created, updated) = (count(Outcome::Created), count(Outcome::Updated));
    let refused = count(Outcome::Refused);
    let told = format!("tools were imported: {created} created, {updated} updated, {refused} refused");
    write.tell(trail::changed(caller, told));
    // Each version is of one that became another, in the same order.
    let changed =
        plan.imported.iter().filter(|each| matches!(each.outcome, Outcome::Created | Outcome::Updated));
    for (version, imported) in plan.versions.iter().zip(changed) {
        let source = clean(&imported.source, MAX_SOURCE);
        let difference = trail::difference(&imported.changes);
        let told = format!("version {} was imported from {source}{difference}", imported.version);
        write.tell(trail::tool(caller, version.named(), told));
    }
}

fn check_all(candidates: Vec<Candidate>) -> Result<Vec<Checked>, Error> {
    Room::check_count(candidates.len())?;
    let mut names = BTreeSet::new();
    let mut room = Room::default();
    let mut checked = Vec::with_capacity(candidates.len());
    for candidate in candidates {
        room.take(&candidate)?;
        let Candidate { source, name, proposal, notes } = candidate;
        let is_first = name.is_empty() || names.insert(name.clone());
        let tool = match proposal {
            Ok(_) if !is_first => Err("another one of this import has the same name".to_owned()),
            Ok(proposal) => check::check(proposal, Origin::Import).map_err(|found| told(&found)),
            Err(reason) => Err(reason),
        };
        let tool = match tool {
            Ok(definition) => {
                let digests = definition.digests()?;
                Ok((definition, digests))
            }
            Err(reason) => Err(reason),
        };
        checked.push(Checked { name, source, notes, tool });
    }
    Ok(checked)
}

fn told(found: &check::Violations) -> String {
    let strip = |field: &str| field.trim_start_matches("definition.").to_owned();
    let reasons: Vec<String> =
        found.0.iter().map(|v| format!("{} {}", strip(&v.field), v.description)).collect();
    reasons.join("; ")
}

/// The notes as one text.
fn note(notes: &[String]) -> String {
    clean(&notes.join("; "), MAX_NOTE)
}

/// Cuts versions into runs that one statement can carry.
fn batches(versions: &[NewVersion]) -> Vec<&[NewVersion]> {
    let mut batches = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (index, version) in versions.iter().enumerate() {
        if bytes > 0 && bytes + version.bytes() > BATCH_BYTES {
            batches.push(&versions[start..index]);
            (start, bytes) = (index, 0);
        }
        bytes += version.bytes();
    }
    batches.push(&versions[start..]);
    batches
}

#[cfg(test)]
mod tests;
