//! Reads the trail, newest first, page by page.

use ::rpc::{Page, PageKey};
use ::store::Database;
use types::{Caller, Role};

use crate::{
    Error,
    store::{self, EventRow, Filter},
};

/// Bytes that all but the long texts of an event take, generously.
const FIELD_BYTES: usize = 1_024;

/// One page of events and the token of the next.
pub(crate) async fn query(
    database: &Database,
    pages: &PageKey,
    caller: &Caller,
    mut filter: Filter,
    page: (i32, &str),
) -> Result<(Vec<EventRow>, String), Error> {
    narrow_to_own(caller, &mut filter)?;
    let page = pages.page(page.0, page.1, format!("{}|{filter:?}", caller.team))?;
    let mut rows =
        store::event_list(database.pool()?, &caller.team, &filter, before(&page)?, page.size + 1).await?;
    let size = |row: &EventRow| row.arguments_json.len() + row.message.len() + FIELD_BYTES;
    let next = pages.next_sized(&page, &mut rows, size, |row| row.sequence.to_string());
    Ok((rows, next))
}

/// An agent reads its own events; an auditor or above reads all of the team.
fn narrow_to_own(caller: &Caller, filter: &mut Filter) -> Result<(), Error> {
    if caller.role >= Role::Auditor {
        return Ok(());
    }
    match filter.agent_id.get_or_insert_with(|| caller.agent.clone()) {
        agent if *agent == caller.agent => Ok(()),
        _ => Err(Error::invalid("agent_id", "only an auditor may read the trail of another agent")),
    }
}

fn before(page: &Page) -> Result<Option<i64>, Error> {
    let read =
        |cursor: &String| cursor.parse().map_err(|_| Error::invalid("page_token", "holds no position"));
    page.cursor.as_ref().map(read).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_sees_its_own_events_and_an_auditor_all() {
        let mut caller = Caller { agent: "a".into(), service: None, ..Caller::service("x") };
        let mut filter = Filter::default();
        narrow_to_own(&caller, &mut filter).unwrap();
        assert_eq!(filter.agent_id.as_deref(), Some("a"));
        let mut other = Filter { agent_id: Some("b".into()), ..Filter::default() };
        assert!(narrow_to_own(&caller, &mut other).is_err());
        caller.role = Role::Auditor;
        narrow_to_own(&caller, &mut other).unwrap();
        assert_eq!(other.agent_id.as_deref(), Some("b"));
    }
}
