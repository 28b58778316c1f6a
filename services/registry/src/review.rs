//! Decides on definitions that wait for approval: shows how one differs from the one that serves, and approves
//! or rejects it by its digest, so that nobody approves what they did not see.

use ::store::Database;

use crate::{
    Error,
    change::{self, Change},
    definition::Definition,
    get, register,
    store::{self, NewVersion, ReviewState, ToReview, ToolRow, Write},
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

/// Shows the definition, or decides on it in the name of an agent.
pub(crate) async fn review(
    database: &Database,
    team: &str,
    reviewer: &str,
    question: Question,
) -> Result<Answer, Error> {
    check(&question)?;
    let Question { name, digest, reject, note } = &question;
    let pool = database.pool()?;
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
    let definition: Definition = serde_json::from_str(&review.definition)?;
    if decided {
        let state = if *reject { ReviewState::Rejected } else { ReviewState::Approved };
        store::review_decide(&mut write, team, review.id, state, reviewer, note).await?;
        if !reject {
            serve(&mut write, team, &review, &definition).await?;
        } else if review.approved {
            store::pending_clear(&mut write, team, std::slice::from_ref(name)).await?;
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

/// Makes the definition the one that serves. Settings that do not go with it are dropped, as they are when a
/// server's tool changes by itself: the reviewer saw the change.
async fn serve(
    write: &mut Write,
    team: &str,
    review: &ToReview,
    definition: &Definition,
) -> Result<(), Error> {
    let version = NewVersion::existing(review.id, definition, definition.digests()?)?;
    let version = [version.withdrawn(review.withdrawn)];
    store::tool_put(write, team, review.server_name.as_deref(), &version).await?;
    if let Some(current) = store::settings_find(write, team, &review.name).await?
        && let Some(fitted) = register::fitted(team, &current, definition)?
    {
        store::settings_put(write, team, &[fitted]).await?;
    }
    Ok(())
}
