//! Credentials and their versions. Secrets come here sealed; a version that ends loses its sealed secret, its token
//! and its data key in the statement that ends it.

use ::store::Error;
use chrono::{DateTime, Utc};
use sqlx::{PgPool, Postgres, Transaction};

use crate::{
    credentials::{Kind, Rotation, Source, State},
    trail::{self, Event},
};

/// A credential without its versions.
#[derive(Debug, Clone)]
pub(crate) struct CredentialRow {
    pub name: String,
    pub kind: Kind,
    pub last_version: i32,
    pub rotation: Rotation,
    pub next_rotation_time: Option<DateTime<Utc>>,
    pub last_error: String,
}

/// A version, without what is sealed in it.
#[derive(Debug, Clone)]
pub(crate) struct VersionRow {
    pub name: String,
    pub version: i32,
    pub state: State,
    pub create_time: DateTime<Utc>,
    pub expire_time: Option<DateTime<Utc>>,
    pub retire_time: Option<DateTime<Utc>>,
    pub last_used_time: Option<DateTime<Utc>>,
    pub fetch_error: String,
    /// Which wrapping key opens it; `None`: it has ended.
    pub key_id: Option<String>,
}

/// A version to add.
#[derive(Debug)]
pub(crate) struct SealedVersion {
    pub version: i32,
    pub key_id: String,
    pub wrapped_key: Vec<u8>,
    pub sealed: Vec<u8>,
    pub digest: Vec<u8>,
    pub expire_time: Option<DateTime<Utc>>,
}

/// As the table has it.
struct Stored {
    name: String,
    kind: String,
    last_version: i32,
    interval_s: i64,
    overlap_s: Option<i64>,
    source_file: Option<String>,
    source_url: Option<String>,
    next_rotation_time: Option<DateTime<Utc>>,
    last_error: String,
}

impl Stored {
    /// `None`: a newer program knows its kind.
    fn read(self) -> Option<CredentialRow> {
        let source = match (self.source_file, self.source_url) {
            (Some(file), _) => Source::File(file),
            (None, Some(url)) => Source::Url(url),
            (None, None) => Source::Operator,
        };
        let rotation = Rotation { interval_s: self.interval_s, overlap_s: self.overlap_s, source };
        Some(CredentialRow {
            name: self.name,
            kind: self.kind.parse().ok()?,
            last_version: self.last_version,
            rotation,
            next_rotation_time: self.next_rotation_time,
            last_error: self.last_error,
        })
    }
}

/// One credential.
pub(crate) async fn credential_find(
    pool: &PgPool,
    team: &str,
    name: &str,
) -> Result<Option<CredentialRow>, Error> {
    let row = sqlx::query_as!(
        Stored,
        "SELECT name, kind, last_version, interval_s, overlap_s, source_file, source_url, next_rotation_time,
                last_error
         FROM registry.credential WHERE team_id = $1 AND name = $2",
        team,
        name,
    )
    .fetch_optional(pool)
    .await?;
    Ok(row.and_then(Stored::read))
}

/// The credentials of a team, in order of name.
pub(crate) async fn credential_list(pool: &PgPool, team: &str) -> Result<Vec<CredentialRow>, Error> {
    let rows = sqlx::query_as!(
        Stored,
        r#"SELECT name, kind, last_version, interval_s, overlap_s, source_file, source_url, next_rotation_time,
                  last_error
           FROM registry.credential WHERE team_id = $1 ORDER BY name COLLATE "C""#,
        team,
    )
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().filter_map(Stored::read).collect())
}

/// The newest 20 versions of each credential of a team, or of one, newest first.
pub(crate) async fn credential_versions(
    pool: &PgPool,
    team: &str,
    name: Option<&str>,
) -> Result<Vec<VersionRow>, Error> {
    let rows = sqlx::query_as!(
        VersionRow,
        r#"SELECT v.name, v.version, v.state, v.create_time, v.expire_time, v.retire_time, v.last_used_time,
                  v.fetch_error, v.key_id
           FROM registry.credential c CROSS JOIN LATERAL (
               SELECT * FROM registry.credential_version v
               WHERE v.team_id = c.team_id AND v.name = c.name ORDER BY v.version DESC LIMIT 20) v
           WHERE c.team_id = $1 AND ($2::text IS NULL OR c.name = $2)
           ORDER BY v.name COLLATE "C", v.version DESC"#,
        team,
        name,
    )
    .fetch_all(pool)
    .await?;
    Ok(rows)
}

/// A transaction that changes the versions of one credential, and holds the lock that every other such one waits
/// for. Dropped without `commit`, nothing of it remains.
pub(crate) struct CredentialWrite {
    pub(super) transaction: Transaction<'static, Postgres>,
    pub(super) team: String,
    pub(super) name: String,
    /// The credential, if there is one.
    pub row: Option<CredentialRow>,
    /// What the trail is told of it.
    events: Vec<Event>,
}

impl CredentialWrite {
    /// Takes the lock.
    pub(crate) async fn begin(pool: &PgPool, team: &str, name: &str) -> Result<Self, Error> {
        let transaction = pool.begin().await?;
        let (team, name, events) = (team.to_owned(), name.to_owned(), Vec::new());
        let mut write = Self { transaction, team, name, row: None, events };
        write.lock().await?;
        Ok(write)
    }

    async fn lock(&mut self) -> Result<(), Error> {
        let row = sqlx::query_as!(
            Stored,
            "SELECT name, kind, last_version, interval_s, overlap_s, source_file, source_url,
                    next_rotation_time, last_error
             FROM registry.credential WHERE team_id = $1 AND name = $2 FOR UPDATE",
            self.team,
            self.name,
        )
        .fetch_optional(&mut *self.transaction)
        .await?;
        self.row = row.and_then(Stored::read);
        Ok(())
    }

    /// Makes the credential if it is not there, and takes the lock.
    pub(crate) async fn create(&mut self, kind: Kind) -> Result<(), Error> {
        sqlx::query!(
            "INSERT INTO registry.credential (team_id, name, kind) VALUES ($1, $2, $3)
             ON CONFLICT (team_id, name) DO NOTHING",
            self.team,
            self.name,
            kind.as_str(),
        )
        .execute(&mut *self.transaction)
        .await?;
        self.lock().await
    }

    /// How many credentials the team has.
    pub(crate) async fn count(&mut self) -> Result<i64, Error> {
        let count = sqlx::query_scalar!(
            r#"SELECT count(*) AS "count!" FROM registry.credential WHERE team_id = $1"#,
            self.team,
        );
        Ok(count.fetch_one(&mut *self.transaction).await?)
    }

    /// Whether a version may still be used, or may come to be.
    pub(crate) async fn is_live(&mut self) -> Result<bool, Error> {
        let live = sqlx::query_scalar!(
            r#"SELECT EXISTS (SELECT 1 FROM registry.credential_version
                              WHERE team_id = $1 AND name = $2 AND state <> 'revoked') AS "live!""#,
            self.team,
            self.name,
        );
        Ok(live.fetch_one(&mut *self.transaction).await?)
    }

    /// Says of which kind it is, and how it is rotated.
    pub(crate) async fn define(&mut self, kind: Kind, rotation: &Rotation) -> Result<(), Error> {
        let (file, url) = match &rotation.source {
            Source::Operator => (None, None),
            Source::File(file) => (Some(file.as_str()), None),
            Source::Url(url) => (None, Some(url.as_str())),
        };
        sqlx::query!(
            "UPDATE registry.credential
             SET kind = $3, interval_s = $4, overlap_s = $5, source_file = $6, source_url = $7
             WHERE team_id = $1 AND name = $2",
            self.team,
            self.name,
            kind.as_str(),
            rotation.interval_s,
            rotation.overlap_s,
            file,
            url,
        )
        .execute(&mut *self.transaction)
        .await?;
        Ok(())
    }

    /// Adds the next version, which is not used yet.
    pub(crate) async fn add(&mut self, version: &SealedVersion) -> Result<(), Error> {
        sqlx::query!(
            "WITH numbered AS (
                 UPDATE registry.credential SET last_version = $3 WHERE team_id = $1 AND name = $2)
             INSERT INTO registry.credential_version
                 (team_id, name, version, state, key_id, wrapped_key, sealed, digest, expire_time)
             VALUES ($1, $2, $3, 'pending', $4, $5, $6, $7, $8)",
            self.team,
            self.name,
            version.version,
            version.key_id,
            version.wrapped_key,
            version.sealed,
            version.digest,
            version.expire_time,
        )
        .execute(&mut *self.transaction)
        .await?;
        Ok(())
    }

    /// Lets a version be used from now on, and the one before for as long as it overlaps. Gives whether it is:
    /// one that ended meanwhile, or that a later one overtook, is not. Those long gone leave the table.
    pub(crate) async fn activate(&mut self, version: i32, rotation: &Rotation) -> Result<bool, Error> {
        let (team, name) = (self.team.as_str(), self.name.as_str());
        let may = sqlx::query_scalar!(
            r#"SELECT EXISTS (SELECT 1 FROM registry.credential_version
                              WHERE team_id = $1 AND name = $2 AND version = $3 AND state = 'pending')
                  AND NOT EXISTS (SELECT 1 FROM registry.credential_version
                                  WHERE team_id = $1 AND name = $2 AND version > $3 AND state = 'active') AS "may!""#,
            team,
            name,
            version,
        )
        .fetch_one(&mut *self.transaction)
        .await?;
        // What retired before, what does not overlap, and what was overtaken ends here.
        sqlx::query!(
            "UPDATE registry.credential_version
             SET state = 'revoked', key_id = NULL, wrapped_key = NULL, sealed = NULL, token = NULL,
                 token_time = NULL, token_end_time = NULL, fetch_id = NULL, fetch_until = NULL, fetch_error = ''
             WHERE team_id = $1 AND name = $2
               AND CASE WHEN $4 THEN state = 'retiring' OR (state = 'active' AND $5::bigint = 0)
                        ELSE version = $3 AND state = 'pending' END",
            team,
            name,
            version,
            may,
            rotation.overlap_s(),
        )
        .execute(&mut *self.transaction)
        .await?;
        if !may {
            return Ok(false);
        }
        sqlx::query!(
            "UPDATE registry.credential_version
             SET state = 'retiring', retire_time = now() + make_interval(secs => $3)
             WHERE team_id = $1 AND name = $2 AND state = 'active'",
            team,
            name,
            rotation.overlap_s() as f64,
        )
        .execute(&mut *self.transaction)
        .await?;
        sqlx::query!(
            "UPDATE registry.credential_version SET state = 'active'
             WHERE team_id = $1 AND name = $2 AND version = $3",
            team,
            name,
            version,
        )
        .execute(&mut *self.transaction)
        .await?;
        self.schedule(rotation, version).await?;
        Ok(true)
    }

    async fn schedule(&mut self, rotation: &Rotation, version: i32) -> Result<(), Error> {
        sqlx::query!(
            "WITH old AS (
                 DELETE FROM registry.credential_version
                 WHERE team_id = $1 AND name = $2 AND state = 'revoked' AND version <= $4::integer - 100)
             UPDATE registry.credential
             SET next_rotation_time = now() + make_interval(secs => $3), failures = 0, last_error = ''
             WHERE team_id = $1 AND name = $2",
            self.team,
            self.name,
            rotation.interval_s().map(|seconds| seconds as f64),
            version,
        )
        .execute(&mut *self.transaction)
        .await?;
        Ok(())
    }

    /// Takes back a version that was never used, and the credential with it where it was its first. Gives whether it
    /// did: one that holds a token works, and may hold the only refresh token that is still taken.
    pub(crate) async fn discard(&mut self, version: i32) -> Result<bool, Error> {
        let kept = sqlx::query_scalar!(
            r#"WITH gone AS (
                   DELETE FROM registry.credential_version
                   WHERE team_id = $1 AND name = $2 AND version = $3 AND state = 'pending' AND token IS NULL)
               SELECT EXISTS (SELECT 1 FROM registry.credential_version
                              WHERE team_id = $1 AND name = $2 AND version = $3 AND state = 'pending'
                                AND token IS NOT NULL) AS "kept!""#,
            self.team,
            self.name,
            version,
        )
        .fetch_one(&mut *self.transaction)
        .await?;
        sqlx::query!(
            "DELETE FROM registry.credential c WHERE team_id = $1 AND name = $2 AND last_version = 1
             AND NOT EXISTS (SELECT 1 FROM registry.credential_version v
                             WHERE v.team_id = c.team_id AND v.name = c.name)",
            self.team,
            self.name,
        )
        .execute(&mut *self.transaction)
        .await?;
        Ok(!kept)
    }

    /// Has the trail told of a change, once this is committed.
    pub(crate) fn tell(&mut self, event: Event) {
        self.events.push(event);
    }

    /// Makes the changes seen by all.
    pub(crate) async fn commit(mut self) -> Result<(), Error> {
        trail::record(&mut self.transaction, &self.events).await?;
        Ok(self.transaction.commit().await?)
    }
}
