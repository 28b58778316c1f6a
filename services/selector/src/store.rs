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

/// Deletes what is past its time. What was learned stays.
pub(crate) async fn rows_delete_expired(pool: &PgPool) -> Result<(), Error> {
    learned_delete_expired(pool).await?;
    patterns::patterns_delete_expired(pool).await?;
    feedback::feedback_delete_expired(pool).await?;
    vectors_delete_expired(pool).await?;
    erasure::erasures_delete_expired(pool).await?;
    selections_delete_expired(pool).await
}
