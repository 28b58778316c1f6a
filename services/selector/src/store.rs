//! The SQL of the selector service: one file for each kind of rows.

mod centroids;
mod erasure;
mod feedback;
mod learn;
mod outcomes;
pub(crate) mod patterns;
mod pins;
pub(crate) mod policy;
mod selections;
mod vectors;

use ::store::Error;
use sqlx::{Connection as _, PgPool, Postgres, Transaction};

pub(crate) use centroids::*;
pub(crate) use erasure::*;
pub(crate) use feedback::*;
pub(crate) use learn::*;
pub(crate) use outcomes::*;
pub(crate) use pins::*;
pub(crate) use selections::*;
pub(crate) use sqlx::PgConnection as Connection;
pub(crate) use vectors::*;

/// Begins a transaction.
pub(crate) async fn begin(connection: &mut Connection) -> Result<Transaction<'_, Postgres>, Error> {
    Ok(connection.begin().await?)
}

/// Takes over what another cluster wrote, after a restore from a dump: its transactions' numbers may be higher than any
/// of here for years, and what is written here would look older than what was restored. To be called before anything is
/// read into memory.
pub(crate) async fn changes_adopt(pool: &PgPool) -> Result<(), Error> {
    let tables = [
        sqlx::query!(
            "UPDATE selector.record SET changed_in = pg_current_xact_id()::text::bigint
             WHERE changed_in >= pg_snapshot_xmax(pg_current_snapshot())::text::bigint"
        ),
        sqlx::query!(
            "UPDATE selector.centroid SET changed_in = pg_current_xact_id()::text::bigint
             WHERE changed_in >= pg_snapshot_xmax(pg_current_snapshot())::text::bigint"
        ),
        sqlx::query!(
            "UPDATE selector.transition SET changed_in = pg_current_xact_id()::text::bigint
             WHERE changed_in >= pg_snapshot_xmax(pg_current_snapshot())::text::bigint"
        ),
        sqlx::query!(
            "UPDATE selector.alarm SET changed_in = pg_current_xact_id()::text::bigint
             WHERE changed_in >= pg_snapshot_xmax(pg_current_snapshot())::text::bigint"
        ),
        sqlx::query!(
            "UPDATE selector.team SET changed_in = pg_current_xact_id()::text::bigint
             WHERE changed_in >= pg_snapshot_xmax(pg_current_snapshot())::text::bigint"
        ),
    ];
    for adopt in tables {
        adopt.execute(pool).await?;
    }
    Ok(())
}

/// Deletes what is past its time. What was learned stays.
pub(crate) async fn rows_delete_expired(pool: &PgPool) -> Result<(), Error> {
    learned_delete_expired(pool).await?;
    patterns::patterns_delete_expired(pool).await?;
    vectors_delete_expired(pool).await?;
    erasure::erasures_delete_expired(pool).await?;
    selections_delete_expired(pool).await?;
    feedback::feedback_delete_orphaned(pool).await
}
