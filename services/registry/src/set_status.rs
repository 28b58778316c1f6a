//! Enables, deprecates or disables a tool; all its versions follow.

use ::store::Database;

use crate::{
    Error, get,
    store::{self, ToolRow, ToolStatus, Write},
};

/// Sets the status and gives the newest version.
pub(crate) async fn set_status(
    database: &Database,
    team: &str,
    name: &str,
    status: ToolStatus,
) -> Result<ToolRow, Error> {
    let pool = database.pool()?;
    let mut write = Write::begin(pool).await?;
    if !store::tool_set_status(&mut write, team, name, status).await? {
        drop(write);
        return Err(get::not_found(database, team, name.to_owned()).await);
    }
    write.commit().await?;
    match store::tool_find(pool, team, name).await? {
        Some(tool) => Ok(tool),
        None => Err(get::not_found(database, team, name.to_owned()).await),
    }
}
