//! Reads access requests. Who may decide one sees it, and auditors see all; an agent sees its own.

use ::rpc::{Page, PageKey};
use ::store::Database;
use chrono::{DateTime, Utc};
use types::{Caller, Role};
use uuid::Uuid;

use super::standing;
use crate::{
    Error,
    store::{self, AccessRequestFilter, AccessRequestRow},
};

/// One access request as it is at this time.
pub(crate) async fn get(
    database: &Database,
    caller: &Caller,
    id: Uuid,
    now: DateTime<Utc>,
) -> Result<AccessRequestRow, Error> {
    let found = store::access_request_get(database.pool()?, &caller.team, id).await?;
    found.filter(|row| may_see(caller, row)).map(|row| standing(row, now)).ok_or_else(|| unknown(id))
}

/// One page of access requests, and the token of the next.
pub(crate) async fn list(
    database: &Database,
    pages: &PageKey,
    caller: &Caller,
    mut filter: AccessRequestFilter,
    page: (i32, &str),
    now: DateTime<Utc>,
) -> Result<(Vec<AccessRequestRow>, String), Error> {
    let page =
        pages.page(page.0, page.1, format!("{}|{}|{filter:?}", caller.team, caller.role < Role::Auditor))?;
    if caller.role < Role::Auditor {
        if filter.agent_id.as_ref().is_some_and(|agent| *agent != caller.agent) {
            return Ok((Vec::new(), String::new()));
        }
        filter.agent_id = Some(caller.agent.clone());
    }
    let range = (before(&page)?, page.size + 1);
    let rows = store::access_request_list(database.pool()?, &caller.team, &filter, range, now).await?;
    let mut rows: Vec<_> = rows.into_iter().map(|row| standing(row, now)).collect();
    let next = pages.next(&page, &mut rows, |row| row.request_id.to_string());
    Ok((rows, next))
}

/// Whoever may decide one is an auditor at least.
fn may_see(caller: &Caller, row: &AccessRequestRow) -> bool {
    caller.role >= Role::Auditor || caller.agent == row.agent_id
}

pub(super) fn unknown(id: Uuid) -> Error {
    let hint = "see those there are: toolcrib approvals list";
    Error::NotFound { what: "access request", name: id.to_string(), hint }
}

fn before(page: &Page) -> Result<Option<Uuid>, Error> {
    let read =
        |cursor: &String| cursor.parse().map_err(|_| Error::invalid("page_token", "holds no position"));
    page.cursor.as_ref().map(read).transpose()
}
