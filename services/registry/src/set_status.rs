//! Enables, deprecates or disables a tool; all its versions follow.

use ::store::Database;
use types::Caller;

use crate::{
    Error, get,
    store::{self, ToolRow, ToolStatus, Write},
    trail::{self, Named},
};

/// Sets the status and gives the newest version.
pub(crate) async fn set_status(
    database: &Database,
    caller: &Caller,
    name: &str,
    status: ToolStatus,
) -> Result<ToolRow, Error> {
    let (pool, team) = (database.pool()?, caller.team.as_str());
    let mut write = Write::begin(pool).await?;
    let Some(set) = store::tool_set_status(&mut write, team, name, status).await? else {
        drop(write);
        return Err(get::not_found(database, team, name.to_owned()).await);
    };
    let version = Named { name, version: &set.version, digest: &set.digest };
    let told = format!("its status was set to {}; it was {}", status.as_str(), set.before);
    write.tell(trail::tool(caller, version, told));
    write.commit().await?;
    match store::tool_find(pool, team, name).await? {
        Some(tool) => Ok(tool),
        None => Err(get::not_found(database, team, name.to_owned()).await),
    }
}
