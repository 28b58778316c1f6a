//! Tells what was spent, by task, agent, tool or day, and how much of the budgets is left as permissions tells the same
//! caller. Must never show an agent more than its own.

use ::rpc::{Link, Outgoing, PageKey, kind_of};
use ::store::Database;
use proto::permissions::v1::{
    Budget, GetBudgetRequest, permissions_service_client::PermissionsServiceClient,
};
use types::{Caller, Kind, Scope};

use crate::{
    Error,
    store::{self, CostCursor, CostKey, CostRow, Grouping, Period},
    usage::narrow_to_own,
};

/// By what costs are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Group {
    Task,
    Agent,
    Tool,
    Day,
}

/// Costs, as rows, the token of the next page, and what all rows cost.
#[derive(Debug)]
pub(crate) struct Costs {
    pub rows: Vec<CostRow>,
    pub next_page_token: String,
    pub total_micro_usd: i64,
}

/// One page of costs.
pub(crate) async fn get_costs(
    database: &Database,
    pages: &PageKey,
    caller: &Caller,
    group: Group,
    mut period: Period,
    page: (i32, &str),
) -> Result<Costs, Error> {
    narrow_to_own(caller, &mut period)?;
    if period.task_id.is_some() && matches!(group, Group::Tool | Group::Day) {
        let description = "cannot be told by tool or day; ask by task or agent, or leave task_id out";
        return Err(Error::invalid("task_id", description));
    }
    let team = caller.team.as_str();
    let page = pages.page(page.0, page.1, format!("costs|{team}|{period:?}|{group:?}"))?;
    let after = page.cursor.as_deref().map(cursor).transpose()?;
    let mut rows = list(database, team, &period, group, (after.as_ref(), page.size + 1)).await?;
    let next_page_token = pages.next(&page, &mut rows, |row| format!("{} {}", row.rank, row.key));
    Ok(Costs { rows, next_page_token, total_micro_usd: total(database, team, &period, group).await? })
}

/// Whether these costs are kept by task: of tasks days are not known.
fn is_of_tasks(group: Group, period: &Period) -> bool {
    group == Group::Task || period.task_id.is_some()
}

async fn list(
    database: &Database,
    team: &str,
    period: &Period,
    group: Group,
    (after, limit): (Option<&CostCursor>, i64),
) -> Result<Vec<CostRow>, ::store::Error> {
    let pool = database.pool()?;
    let by = match group {
        _ if is_of_tasks(group, period) => {
            return store::task_cost_list(pool, team, period, group == Group::Agent, after, limit).await;
        }
        Group::Task | Group::Agent => CostKey::Agent,
        Group::Tool => CostKey::Tool,
        Group::Day => CostKey::Day,
    };
    store::cost_list(pool, team, period, by, after, limit).await
}

async fn total(
    database: &Database,
    team: &str,
    period: &Period,
    group: Group,
) -> Result<i64, ::store::Error> {
    let pool = database.pool()?;
    if is_of_tasks(group, period) {
        return store::task_cost_sum(pool, team, period).await;
    }
    let all = store::usage_list(pool, team, period, Grouping::default(), None, 1).await?;
    Ok(all.first().map_or(0, |row| row.cost_micro_usd))
}

fn cursor(text: &str) -> Result<CostCursor, Error> {
    let wrong = || Error::invalid("page_token", "holds no place in this listing");
    let (rank, key) = text.split_once(' ').ok_or_else(wrong)?;
    Ok((rank.parse().map_err(|_| wrong())?, key.to_owned()))
}

/// The team's budget as permissions tells the caller; `None`: there is none, or the caller may not see it.
pub(crate) async fn budget(
    permissions: &Link,
    outgoing: &Outgoing,
    caller: &Caller,
    time_left: std::time::Duration,
) -> Result<Option<Budget>, Error> {
    // What the caller asks for itself is asked of its key; what this service asks for it, here.
    if !caller.has_scope(Scope::PermissionsRead) {
        return Ok(None);
    }
    let mut client = PermissionsServiceClient::new(permissions.clone());
    let asked = client.get_budget(outgoing.request(caller, time_left, GetBudgetRequest {})).await;
    match asked {
        Ok(answer) => Ok(answer.into_inner().budget.filter(|budget| budget.daily_micro_usd > 0)),
        Err(status) if kind_of(&status) == Kind::Denied => Ok(None),
        Err(status) => Err(Error::Peer { service: "permissions", message: status.message().to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_keeps_keys_with_spaces() {
        assert_eq!(cursor("-70 task of mine").unwrap(), (-70, "task of mine".to_owned()));
        assert!(cursor("x").is_err() && cursor("a b").is_err());
    }
}
