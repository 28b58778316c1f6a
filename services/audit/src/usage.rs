//! Tells how much was used: sums of what was folded in with the leaves, grouped as asked. Must never show an agent more
//! than its own.

use ::rpc::PageKey;
use ::store::Database;
use chrono::{Days, NaiveDate, Utc};
use types::{Caller, Role};

use crate::{
    Error,
    store::{self, Grouping, Period, UseCursor, UseRow},
};

/// Days before today with which a time begins that is not said.
const DEFAULT_DAYS: u64 = 30;

/// Use, as rows, the token of the next page, and all rows together.
#[derive(Debug)]
pub(crate) struct Usage {
    pub rows: Vec<UseRow>,
    pub next_page_token: String,
    pub total: UseRow,
}

/// One page of use.
pub(crate) async fn get_usage(
    database: &Database,
    pages: &PageKey,
    caller: &Caller,
    mut period: Period,
    by: Grouping,
    page: (i32, &str),
) -> Result<Usage, Error> {
    narrow_to_own(caller, &mut period)?;
    let team = caller.team.as_str();
    let page = pages.page(page.0, page.1, format!("use|{team}|{period:?}|{by:?}"))?;
    let after = page.cursor.as_deref().map(cursor).transpose()?;
    let pool = database.pool()?;
    let mut rows = store::usage_list(pool, team, &period, by, after.as_ref(), page.size + 1).await?;
    let next_page_token = pages.next(&page, &mut rows, |row| {
        let cursor = (&row.day, &row.tool_name, &row.agent_id, &row.classification);
        serde_json::to_string(&cursor).unwrap_or_default()
    });
    let total = store::usage_list(pool, team, &period, Grouping::default(), None, 1).await?;
    Ok(Usage { rows, next_page_token, total: total.into_iter().next().unwrap_or_default() })
}

fn cursor(text: &str) -> Result<UseCursor, Error> {
    serde_json::from_str(text).map_err(|_| Error::invalid("page_token", "holds no place in this listing"))
}

/// The days asked for: of the last thirty, where they are not said.
pub(crate) fn period(start_day: &str, end_day: &str) -> Result<Period, Error> {
    let day = |field: &str, text: &str| {
        let wrong = || Error::invalid(field, format!("is {text:?}; a day is written as YYYY-MM-DD"));
        if text.is_empty() { Ok(None) } else { text.parse::<NaiveDate>().map(Some).map_err(|_| wrong()) }
    };
    let end = day("end_day", end_day)?.unwrap_or_else(|| Utc::now().date_naive());
    let before = || end.checked_sub_days(Days::new(DEFAULT_DAYS)).unwrap_or(end);
    let start = day("start_day", start_day)?.unwrap_or_else(before);
    if start > end {
        let description =
            format!("is {start}, after the end on {end}; the first day must not be after the last");
        return Err(Error::invalid("start_day", description));
    }
    Ok(Period { start, end, tool_name: None, agent_id: None, task_id: None })
}

/// An agent reads its own; an auditor or above reads all of the team.
pub(crate) fn narrow_to_own(caller: &Caller, period: &mut Period) -> Result<(), Error> {
    if caller.role >= Role::Auditor {
        return Ok(());
    }
    match period.agent_id.get_or_insert_with(|| caller.agent.clone()) {
        agent if *agent == caller.agent => Ok(()),
        _ => Err(Error::invalid("agent_id", "only an auditor may read the use of another agent")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_is_thirty_days_up_to_its_end_and_never_backwards() {
        let known = period("", "2026-11-23").unwrap();
        assert_eq!(
            (known.start.to_string(), known.end.to_string()),
            ("2026-10-24".into(), "2026-11-23".into())
        );
        assert!(period("2026-11-24", "2026-11-23").unwrap_err().to_string().contains("start_day"));
        assert!(period("yesterday", "").unwrap_err().to_string().contains("YYYY-MM-DD"));
    }

    #[test]
    fn an_agent_sees_its_own_use_and_an_auditor_all() {
        let agent = Caller { agent: "a".into(), service: None, ..Caller::service("x") };
        let mut own = period("", "").unwrap();
        narrow_to_own(&agent, &mut own).unwrap();
        assert_eq!(own.agent_id.as_deref(), Some("a"));
        let mut other = Period { agent_id: Some("b".into()), ..period("", "").unwrap() };
        assert!(narrow_to_own(&agent, &mut other).is_err());
        narrow_to_own(&Caller { role: Role::Auditor, ..agent }, &mut other).unwrap();
        assert_eq!(other.agent_id.as_deref(), Some("b"));
    }
}
