//! Hears what other processes changed. News may be lost with the connection: whoever listens must read
//! again when told so.

use ::store::Error;
use sqlx::{PgPool, postgres::PgListener};

/// What was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum News {
    /// The catalog has this revision.
    Revision(i64),
    /// A server's row changed.
    Servers,
    /// The connection was lost and made again: anything may have been missed.
    Missed,
}

/// A connection that listens.
pub(crate) struct Listener(PgListener);

impl Listener {
    /// Takes a connection of the pool for as long as it lives.
    pub(crate) async fn connect(pool: &PgPool) -> Result<Self, Error> {
        let mut listener = PgListener::connect_with(pool).await?;
        listener.listen(super::CHANNEL).await?;
        Ok(Self(listener))
    }

    /// Waits for news. May be dropped while it waits without losing any.
    pub(crate) async fn next(&mut self) -> Result<News, Error> {
        Ok(match self.0.try_recv().await? {
            None => News::Missed,
            Some(note) => note.payload().parse().map_or(News::Servers, News::Revision),
        })
    }
}
