//! The SQL of those who write events that nobody hands over. Must never commit: they stand with what they tell of, or
//! not at all.

use sqlx::PgConnection;

use crate::Error;

/// Writes payloads for a destination into the table `<schema>.outbox`, in the order given and in one statement, in the
/// transaction of what they tell of.
pub async fn outbox_insert(
    connection: &mut PgConnection,
    schema: &'static str,
    destination: &'static str,
    payloads: &[Vec<u8>],
) -> Result<(), Error> {
    // The schema's name comes from the program, never from outside.
    let insert = sqlx::AssertSqlSafe(format!(
        "INSERT INTO {schema}.outbox (destination, payload)
         SELECT $1, payload FROM unnest($2::bytea[]) WITH ORDINALITY AS written (payload, place) ORDER BY place"
    ));
    sqlx::query(insert).bind(destination).bind(payloads).execute(connection).await?;
    Ok(())
}
