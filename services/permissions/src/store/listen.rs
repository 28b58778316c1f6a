//! Hears what other processes changed. News may be lost with the connection: whoever listens must ask
//! for the revisions again when told so, and now and then without being told.

use ::store::Error;
use serde::{Deserialize, Serialize};
use sqlx::{
    PgConnection, PgPool,
    postgres::{PgListener, PgNotification},
};
use uuid::Uuid;

/// A decision on an access request, or its revocation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Decided {
    pub team: String,
    pub id: Uuid,
    /// From which every decision knows it.
    pub revision: i64,
    /// The agent and the tool whose other calls it may serve, too; `None`: it is for one call.
    pub others: Option<(String, String)>,
}

/// Tells every process of a decision, once the transaction is committed, and after its revision.
pub(crate) async fn decided_tell(connection: &mut PgConnection, decided: &Decided) -> Result<(), Error> {
    // Names, ids and numbers are always JSON, and far shorter than the 8,000 bytes that a note may have.
    let payload = serde_json::to_string(decided).unwrap_or_default();
    sqlx::query!("SELECT pg_notify($1, $2) AS told", super::DECIDED, payload).execute(connection).await?;
    Ok(())
}

/// What was heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum News {
    /// Somebody decided on an access request.
    Decided(Decided),
    /// The team has this revision.
    Revision { team: String, revision: i64 },
    /// The connection was lost and made again: anything may have been missed.
    Missed,
}

/// A connection that listens.
pub(crate) struct Listener(PgListener);

impl Listener {
    /// Takes a connection of the pool for as long as it lives.
    pub(crate) async fn connect(pool: &PgPool) -> Result<Self, Error> {
        let mut listener = PgListener::connect_with(pool).await?;
        listener.listen_all([super::CHANNEL, super::DECIDED]).await?;
        Ok(Self(listener))
    }

    /// Waits for news. May be dropped while it waits without losing any.
    pub(crate) async fn next(&mut self) -> Result<News, Error> {
        let heard = self.0.try_recv().await?;
        Ok(heard.and_then(|note| read(&note)).unwrap_or(News::Missed))
    }

    /// Those of the teams that have a later revision than the one given with them. Asked on the connection
    /// that listens: its answer shows that the connection is alive.
    pub(crate) async fn revisions_after(
        &mut self,
        teams: &[String],
        known: &[i64],
    ) -> Result<Vec<(String, i64)>, Error> {
        let later = sqlx::query!(
            "SELECT t.team_id, t.revision
             FROM UNNEST($1::text[], $2::bigint[]) AS k(team_id, revision)
             JOIN permissions.team t ON t.team_id = k.team_id AND t.revision > k.revision",
            teams,
            known,
        )
        .fetch_all(&mut self.0)
        .await?;
        Ok(later.into_iter().map(|row| (row.team_id, row.revision)).collect())
    }
}

fn read(note: &PgNotification) -> Option<News> {
    if note.channel() == super::DECIDED {
        return serde_json::from_str(note.payload()).ok().map(News::Decided);
    }
    parse(note.payload())
}

fn parse(payload: &str) -> Option<News> {
    let (revision, team) = payload.split_once(' ')?;
    Some(News::Revision { team: team.to_owned(), revision: revision.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_names_its_team_and_another_text_is_no_news() {
        let expected = News::Revision { team: "a b".into(), revision: 12 };
        assert_eq!(parse("12 a b"), Some(expected));
        for odd in ["", "12", "x t", " t"] {
            assert_eq!(parse(odd), None, "{odd:?}");
        }
    }
}
