//! Vectors of tools' texts, so that a start makes none anew.

use ::store::Error;
use sqlx::PgPool;

use crate::texts::Digest;

/// Days that a vector is kept which no tool uses.
const VECTOR_DAYS: i32 = 30;

/// The vectors that are kept of these texts.
pub(crate) async fn vectors_read(
    pool: &PgPool,
    team: &str,
    model_id: &str,
    digests: &[Digest],
) -> Result<Vec<(Digest, Vec<u8>)>, Error> {
    let rows = sqlx::query!(
        "SELECT text_digest, vector FROM selector.vector
         WHERE team_id = $1 AND model_id = $2 AND text_digest = ANY($3)",
        team,
        model_id,
        &hex(digests),
    )
    .fetch_all(pool)
    .await?;
    let digest = |text: String| <Digest>::try_from(hex::decode(text).ok()?).ok();
    Ok(rows.into_iter().filter_map(|row| Some((digest(row.text_digest)?, row.vector))).collect())
}

/// Keeps vectors; one that is kept already is replaced.
pub(crate) async fn vectors_insert(
    pool: &PgPool,
    team: &str,
    model_id: &str,
    vectors: &[(Digest, Vec<u8>)],
) -> Result<(), Error> {
    let (digests, bytes): (Vec<Digest>, Vec<Vec<u8>>) = vectors.iter().cloned().unzip();
    let mut transaction = pool.begin().await?;
    // A vector that is lost in a crash is made anew.
    sqlx::query!("SELECT set_config('synchronous_commit', 'off', true)").fetch_one(&mut *transaction).await?;
    sqlx::query!(
        "INSERT INTO selector.vector (team_id, model_id, text_digest, vector, use_time)
         SELECT $1, $2, digest, vector, now() FROM unnest($3::text[], $4::bytea[]) AS r (digest, vector)
         ORDER BY digest
         ON CONFLICT (team_id, model_id, text_digest) DO UPDATE
             SET vector = excluded.vector, use_time = excluded.use_time",
        team,
        model_id,
        &hex(&digests),
        &bytes,
    )
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(())
}

/// Notes that vectors are used, where that was last noted a day ago.
pub(crate) async fn vectors_touch(
    pool: &PgPool,
    team: &str,
    model_id: &str,
    digests: &[Digest],
) -> Result<(), Error> {
    sqlx::query!(
        "UPDATE selector.vector SET use_time = now()
         WHERE team_id = $1 AND model_id = $2 AND text_digest = ANY($3) AND use_time < now() - interval '1 day'",
        team,
        model_id,
        &hex(digests),
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Deletes the vectors that were not used for long.
pub(crate) async fn vectors_delete_expired(pool: &PgPool) -> Result<(), Error> {
    sqlx::query!(
        "DELETE FROM selector.vector WHERE use_time < now() - make_interval(days => $1)",
        VECTOR_DAYS
    )
    .execute(pool)
    .await?;
    Ok(())
}

fn hex(digests: &[Digest]) -> Vec<String> {
    digests.iter().map(hex::encode).collect()
}
