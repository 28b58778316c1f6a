//! Decides on definitions that wait for approval: shows how one differs from the one that serves, and approves
//! or rejects it by its digest, so that nobody approves what they did not see.

use ::store::Database;
use types::Caller;

use crate::{
    Error,
    change::{self, Change, Kind},
    definition::{Binding, Definition},
    get, register,
    store::{self, NewVersion, ReviewState, ToReview, ToolRow, Write},
    trail::{self, Named},
};

/// Longest note, in characters.
const MAX_NOTE: usize = 1_000;

/// What is asked.
#[derive(Debug)]
pub(crate) struct Question {
    pub name: String,
    /// Of the definition that is decided on; empty: it is shown.
    pub digest: String,
    pub reject: bool,
    pub note: String,
}

/// What is answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub tool: ToolRow,
    pub pending: ToolRow,
    /// Between the one that served and the other; none where none served.
    pub changes: Vec<Change>,
    pub decided: bool,
}

/// Shows the definition, or decides on it in the name of who calls.
pub(crate) async fn review(
    database: &Database,
    caller: &Caller,
    question: Question,
) -> Result<Answer, Error> {
    check(&question)?;
    let Question { name, digest, reject, note } = &question;
    let (pool, team, reviewer) = (database.pool()?, caller.team.as_str(), caller.agent.as_str());
    let mut write = Write::begin(pool).await?;
    let Some(review) = store::review_find(&mut write, team, name, digest).await? else {
        drop(write);
        return Err(match store::tool_find(pool, team, name).await? {
            Some(_) => Error::NothingPending(name.clone()),
            None => get::not_found(database, team, name.clone()).await,
        });
    };
    let decided = !digest.is_empty();
    if decided && *digest != review.digest {
        return Err(Error::DigestMismatch { name: name.clone(), digest: review.digest });
    }
    if decided && *reject && review.review == ReviewState::Rejected {
        return Err(Error::NothingPending(name.clone()));
    }
    let offered: Definition = serde_json::from_str(&review.definition)?;
    let definition = present(&mut write, team, offered.clone()).await?;
    if decided {
        let state = if *reject { ReviewState::Rejected } else { ReviewState::Approved };
        store::review_decide(&mut write, team, review.id, state, reviewer, note).await?;
        if *reject {
            let told = format!("version {} was rejected{}", offered.version, trail::note(note));
            let version = Named { name, version: &offered.version, digest: &review.digest };
            write.tell(trail::tool(caller, version, told));
            if review.approved {
                store::pending_clear(&mut write, team, std::slice::from_ref(name)).await?;
            }
        } else {
            let is_as_offered = definition == offered;
            serve(&mut write, caller, &review, (definition.clone(), is_as_offered), note).await?;
        }
        write.commit().await?;
        let version = &definition.version;
        tracing::info!(
            team,
            tool = name,
            version,
            reviewer,
            approved = !reject,
            "a definition was decided on"
        );
    } else {
        drop(write);
    }
    let changes =
        if review.approved { compared(review.newest_definition, definition).await? } else { vec![] };
    let gone = || Error::ToolNotFound { key: name.clone(), nearest: vec![] };
    Ok(Answer {
        tool: store::tool_find(pool, team, name).await?.ok_or_else(gone)?,
        pending: store::tool_find_by_id(pool, team, review.id).await?.ok_or_else(gone)?,
        changes,
        decided,
    })
}

/// Comparing large schemas takes time: on a blocking thread, and never while other writers wait.
async fn compared(stands: String, definition: Definition) -> Result<Vec<Change>, Error> {
    let compare = move || change::compare(&serde_json::from_str(&stands)?, &definition);
    tokio::task::spawn_blocking(compare).await?
}

fn check(question: &Question) -> Result<(), Error> {
    if question.note.chars().count() > MAX_NOTE {
        return Err(Error::invalid("note", format!("is too long: at most {MAX_NOTE} characters are taken")));
    }
    if question.reject && question.digest.is_empty() {
        return Err(Error::invalid("digest", "is not given: say which definition is rejected"));
    }
    Ok(())
}

/// The definition as it serves once it is approved: one of an MCP server is called where that is now, with the
/// credentials of now, wherever it was offered. How a server is reached is its operator's to say, and nobody's to
/// approve.
async fn present(write: &mut Write, team: &str, mut definition: Definition) -> Result<Definition, Error> {
    if let Binding::Mcp(binding) = &mut definition.binding
        && let Some(place) = store::server_place(write, team, &binding.server).await?
    {
        binding.transport = place.transport.0;
        binding.credentials = place.credentials.0;
    }
    Ok(definition)
}

/// Makes the definition the one that serves: its own version, or a new one where it serves otherwise than it was
/// offered. Settings that do not go with it are dropped, as they are when a server's tool changes by itself: the
/// reviewer saw the change.
async fn serve(
    write: &mut Write,
    caller: &Caller,
    review: &ToReview,
    (mut definition, is_as_offered): (Definition, bool),
    note: &str,
) -> Result<(), Error> {
    let (team, digests) = (caller.team.as_str(), definition.digests()?);
    let version = if is_as_offered {
        NewVersion::existing(review.id, &definition, digests)?
    } else {
        definition.version = next_version(write, team, review).await?;
        let version = NewVersion::new(&definition, digests)?;
        store::versions_insert(write, team, std::slice::from_ref(&version)).await?;
        version
    };
    let told = format!("version {} was approved{}", definition.version, trail::note(note));
    write.tell(trail::tool(caller, version.named(), told));
    let version = [version.withdrawn(review.withdrawn)];
    store::tool_put(write, team, review.server_name.as_deref(), &version).await?;
    if let Some(current) = store::settings_find(write, team, &review.name).await?
        && let Some(fitted) = register::fitted(team, &current, &definition)?
    {
        write.tell(trail::tool(caller, current.named(), register::dropped(&current, &fitted)));
        store::settings_put(write, team, &[fitted]).await?;
    }
    Ok(())
}

/// A version that says enough of any change.
async fn next_version(write: &mut Write, team: &str, review: &ToReview) -> Result<String, Error> {
    let past = store::versions_past(write, team, std::slice::from_ref(&review.name)).await?;
    let newest = serde_json::from_str::<Definition>(&review.newest_definition)?.version;
    let highest = register::highest(&newest, past.iter().map(|past| past.version.as_str()));
    Ok(change::next_version(&newest, &highest, Kind::Breaking))
}
