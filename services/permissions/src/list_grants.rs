//! Lists grants, newest first, page by page. Whoever is not an admin sees only what applies to it.

use ::rpc::{Page, PageKey};
use ::store::Database;
use chrono::{DateTime, Utc};
use types::{Caller, Role};
use uuid::Uuid;

use crate::{
    Error,
    store::{self, GrantFilter, ListedGrant, Windows},
};

/// One page of grants and the token of the next.
pub(crate) async fn list_grants(
    database: &Database,
    pages: &PageKey,
    caller: &Caller,
    mut filter: GrantFilter,
    page: (i32, &str),
    now: DateTime<Utc>,
) -> Result<(Vec<ListedGrant>, String), Error> {
    if caller.role < Role::Admin {
        filter.applies_to = Some(caller.agent.clone());
    }
    let page = pages.page(page.0, page.1, format!("{}|{filter:?}", caller.team))?;
    let (pool, before) = (database.pool()?, before(&page)?);
    let listed = store::grant_list(pool, &caller.team, &filter, Windows::of(now), before, page.size + 1);
    let mut grants = listed.await?;
    let next = pages.next(&page, &mut grants, |listed| listed.grant.grant_id.to_string());
    Ok((grants, next))
}

fn before(page: &Page) -> Result<Option<Uuid>, Error> {
    let read =
        |cursor: &String| cursor.parse().map_err(|_| Error::invalid("page_token", "holds no position"));
    page.cursor.as_ref().map(read).transpose()
}
