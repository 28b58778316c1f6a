//! The outbox: what is sent to another service once the transaction that wrote it is committed.

use ::store::Error;
use sqlx::PgConnection;

/// Writes messages for a destination, in the transaction of what they tell of.
pub(crate) async fn outbox_insert(
    connection: &mut PgConnection,
    destination: &str,
    payloads: &[Vec<u8>],
) -> Result<(), Error> {
    sqlx::query!(
        "INSERT INTO permissions.outbox (destination, payload)
         SELECT $1, payload FROM unnest($2::bytea[]) AS written (payload)",
        destination,
        payloads,
    )
    .execute(connection)
    .await?;
    Ok(())
}
