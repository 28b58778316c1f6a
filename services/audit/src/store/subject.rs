//! The SQL of data subjects: whose payloads are sealed under which key, and what is erased of them. Keys come here
//! wrapped, names as digests.

use ::store::Error;
use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool, Postgres, Transaction};
use uuid::Uuid;

/// A data subject whose key is there.
#[derive(Debug, Clone)]
pub(crate) struct SubjectRow {
    pub team_id: String,
    pub subject_id: Uuid,
    /// Empty: the team itself.
    pub user_digest: Vec<u8>,
    pub key_id: String,
    pub wrapped_key: Vec<u8>,
}

/// The newest erasure of a user.
#[derive(Debug, Clone)]
pub(crate) struct ErasedRow {
    pub team_id: String,
    pub user_digest: Vec<u8>,
    /// The pseudonym that was erased; `None`: the trail knew nobody.
    pub subject_id: Option<Uuid>,
    pub request_time: DateTime<Utc>,
}

/// Teams and digests, for a statement.
fn columns<'a>(wanted: &[(&'a str, &'a [u8])]) -> (Vec<&'a str>, Vec<&'a [u8]>) {
    wanted.iter().copied().unzip()
}

/// The subjects of these teams and digests that there are.
pub(crate) async fn subjects_find(
    connection: &mut PgConnection,
    wanted: &[(&str, &[u8])],
) -> Result<Vec<SubjectRow>, Error> {
    let (teams, digests) = columns(wanted);
    let rows = sqlx::query_as!(
        SubjectRow,
        r#"SELECT s.team_id AS "team_id!", s.subject_id AS "subject_id!", s.user_digest AS "user_digest!",
                s.key_id AS "key_id!", s.wrapped_key AS "wrapped_key!"
         FROM unnest($1::text[], $2::bytea[]) AS w (team_id, user_digest)
         CROSS JOIN LATERAL (
             SELECT * FROM audit.subject s
             WHERE s.team_id = w.team_id AND s.user_digest = w.user_digest AND s.user_digest IS NOT NULL
               AND s.wrapped_key IS NOT NULL
             LIMIT 1
         ) s"#,
        &teams as _,
        &digests as _,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows)
}

/// The subjects of these pseudonyms that are not erased.
pub(crate) async fn subjects_get(
    pool: &PgPool,
    teams: &[&str],
    ids: &[Uuid],
) -> Result<Vec<SubjectRow>, Error> {
    let rows = sqlx::query_as!(
        SubjectRow,
        r#"SELECT s.team_id AS "team_id!", s.subject_id AS "subject_id!", s.user_digest AS "user_digest!",
                s.key_id AS "key_id!", s.wrapped_key AS "wrapped_key!"
         FROM unnest($1::text[], $2::uuid[]) AS w (team_id, subject_id)
         CROSS JOIN LATERAL (
             SELECT * FROM audit.subject s
             WHERE s.team_id = w.team_id AND s.subject_id = w.subject_id
               AND s.user_digest IS NOT NULL AND s.wrapped_key IS NOT NULL
             LIMIT 1
         ) s"#,
        teams as _,
        ids,
    )
    .fetch_all(pool)
    .await?;
    Ok(rows)
}

/// Keeps erasures of these teams waiting until the transaction ends, and waits for those under way: nobody makes
/// a subject of a user who is being erased. Each team has one lock.
pub(crate) async fn subjects_lock_in_txn(
    transaction: &mut Transaction<'_, Postgres>,
    teams: &[&str],
) -> Result<(), Error> {
    sqlx::query!(
        "SELECT pg_advisory_xact_lock_shared(hashtextextended('audit.subject:' || t.team_id, 0))
         FROM (SELECT DISTINCT team_id FROM unnest($1::text[]) AS t (team_id) ORDER BY team_id) t",
        teams as _,
    )
    .fetch_all(&mut **transaction)
    .await?;
    Ok(())
}

/// The other side of that lock: an erasure takes it before it looks for the subject, as the first of its locks.
pub(crate) async fn erasing_lock_in_txn(
    transaction: &mut Transaction<'_, Postgres>,
    team: &str,
) -> Result<(), Error> {
    sqlx::query!("SELECT pg_advisory_xact_lock(hashtextextended('audit.subject:' || $1::text, 0))", team)
        .fetch_one(&mut **transaction)
        .await?;
    Ok(())
}

/// Adds subjects; those that another process has added meanwhile stay as they are.
pub(crate) async fn subjects_add_in_txn(
    transaction: &mut Transaction<'_, Postgres>,
    subjects: &[SubjectRow],
) -> Result<(), Error> {
    let texts = |of: fn(&SubjectRow) -> &str| subjects.iter().map(of).collect::<Vec<_>>();
    let bytes = |of: fn(&SubjectRow) -> &[u8]| subjects.iter().map(of).collect::<Vec<_>>();
    let ids: Vec<Uuid> = subjects.iter().map(|subject| subject.subject_id).collect();
    sqlx::query!(
        "INSERT INTO audit.subject (team_id, subject_id, user_digest, key_id, wrapped_key)
         SELECT * FROM unnest($1::text[], $2::uuid[], $3::bytea[], $4::text[], $5::bytea[])
             AS n (team_id, subject_id, user_digest, key_id, wrapped_key)
         ORDER BY n.team_id, n.user_digest
         ON CONFLICT (team_id, user_digest) WHERE user_digest IS NOT NULL DO NOTHING",
        &texts(|row| &row.team_id) as _,
        &ids,
        &bytes(|row| &row.user_digest) as _,
        &texts(|row| &row.key_id) as _,
        &bytes(|row| &row.wrapped_key) as _,
    )
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

/// Which of these users were erased, and when last.
pub(crate) async fn erased_find(
    connection: &mut PgConnection,
    wanted: &[(&str, &[u8])],
) -> Result<Vec<ErasedRow>, Error> {
    let (teams, digests) = columns(wanted);
    let rows = sqlx::query_as!(
        ErasedRow,
        r#"SELECT e.team_id, e.user_digest AS "user_digest!", e.subject_id, e.request_time
         FROM audit.erasure e
         JOIN unnest($1::text[], $2::bytea[]) AS w (team_id, user_digest)
           ON e.team_id = w.team_id AND e.user_digest = w.user_digest
         ORDER BY e.request_time"#,
        &teams as _,
        &digests as _,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows)
}

/// Which of these subjects are erased or nowhere; the others cannot be erased until the transaction ends.
pub(crate) async fn subjects_dead_in_txn(
    transaction: &mut Transaction<'_, Postgres>,
    subjects: &[super::SubjectKey<'_>],
) -> Result<Vec<Uuid>, Error> {
    let (teams, ids): (Vec<&str>, Vec<Uuid>) = subjects.iter().copied().unzip();
    let live = sqlx::query_scalar!(
        r#"SELECT s.subject_id AS "subject_id!"
         FROM unnest($1::text[], $2::uuid[]) AS w (team_id, subject_id)
         CROSS JOIN LATERAL (
             SELECT s.subject_id FROM audit.subject s
             WHERE s.team_id = w.team_id AND s.subject_id = w.subject_id AND s.wrapped_key IS NOT NULL
             LIMIT 1 FOR SHARE
         ) s"#,
        &teams as _,
        &ids,
    )
    .fetch_all(&mut **transaction)
    .await?;
    Ok(ids.into_iter().filter(|id| !live.contains(id)).collect())
}

/// Subjects whose key one of these wrapping keys wraps, after another one, in order of team and pseudonym.
pub(crate) async fn subjects_wrapped_by(
    pool: &PgPool,
    key_ids: &[String],
    after: (&str, Uuid),
    limit: i64,
) -> Result<Vec<SubjectRow>, Error> {
    let rows = sqlx::query_as!(
        SubjectRow,
        r#"SELECT team_id, subject_id, user_digest AS "user_digest!", key_id, wrapped_key AS "wrapped_key!"
         FROM audit.subject
         WHERE key_id = ANY($1) AND wrapped_key IS NOT NULL AND user_digest IS NOT NULL
           AND (team_id, subject_id) > ($2, $3)
         ORDER BY team_id, subject_id
         LIMIT $4"#,
        key_ids,
        after.0,
        after.1,
        limit,
    )
    .fetch_all(pool)
    .await?;
    Ok(rows)
}

/// Puts a key that was wrapped anew in the place of the old one, unless it was erased or replaced meanwhile.
pub(crate) async fn subject_rewrap(
    pool: &PgPool,
    old: &SubjectRow,
    key_id: &str,
    wrapped: &[u8],
) -> Result<(), Error> {
    sqlx::query!(
        "UPDATE audit.subject SET key_id = $3, wrapped_key = $4
         WHERE team_id = $1 AND subject_id = $2 AND wrapped_key = $5",
        old.team_id,
        old.subject_id,
        key_id,
        wrapped,
        old.wrapped_key,
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// One subject for each wrapping key in use, found from key to key through the index.
pub(crate) async fn subjects_sample(pool: &PgPool) -> Result<Vec<SubjectRow>, Error> {
    let rows = sqlx::query_as!(
        SubjectRow,
        r#"WITH RECURSIVE used AS (
             (SELECT key_id FROM audit.subject WHERE wrapped_key IS NOT NULL ORDER BY key_id LIMIT 1)
             UNION ALL
             SELECT (
                 SELECT s.key_id FROM audit.subject s
                 WHERE s.wrapped_key IS NOT NULL AND s.key_id > u.key_id ORDER BY s.key_id LIMIT 1
             ) FROM used u WHERE u.key_id IS NOT NULL
         )
         SELECT s.team_id AS "team_id!", s.subject_id AS "subject_id!", s.user_digest AS "user_digest!",
                s.key_id AS "key_id!", s.wrapped_key AS "wrapped_key!"
         FROM used u
         CROSS JOIN LATERAL (
             SELECT * FROM audit.subject s
             WHERE s.key_id = u.key_id AND s.wrapped_key IS NOT NULL AND s.user_digest IS NOT NULL
             LIMIT 1
         ) s"#,
    )
    .fetch_all(pool)
    .await?;
    Ok(rows)
}

/// Forgets the digests of users whose erasure was done before a time: events that tell of them and are older still
/// would have to have waited that long.
pub(crate) async fn erased_forget(pool: &PgPool, before: DateTime<Utc>) -> Result<u64, Error> {
    let done = sqlx::query!(
        "UPDATE audit.erasure SET user_digest = NULL WHERE user_digest IS NOT NULL AND done_time < $1",
        before,
    )
    .execute(pool)
    .await?;
    Ok(done.rows_affected())
}
