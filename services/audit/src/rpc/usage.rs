//! `GetUsage` and `GetCosts`: questions and sums as they go over the wire.

use ::rpc::{Call, status};
use proto::{
    audit::v1::{
        BudgetState, CostGroup, CostRow as WireCost, GetCostsRequest, GetCostsResponse, GetUsageRequest,
        GetUsageResponse, UsageRow,
    },
    permissions::v1::Budget,
};
use tonic::{Request, Response, Status};

use super::Service;
use crate::{
    Error,
    costs::{self, Group},
    payload::{sensitivity, timestamp},
    store::{CostRow, Grouping, Period, UseRow},
    usage,
};

pub(super) async fn get_usage(
    service: &Service,
    request: Request<GetUsageRequest>,
) -> Result<Response<GetUsageResponse>, Status> {
    let call = Call::of(&request).map_err(|status| *status)?;
    let request = request.into_inner();
    let asked = usage_asked(&request).map_err(|error| status(&error))?;
    let page = (request.page_size, request.page_token.as_str());
    let got = usage::get_usage(&service.database, &service.pages, &call.caller, asked.0, asked.1, page).await;
    let got = got.map_err(|error| status(&error))?;
    Ok(Response::new(GetUsageResponse {
        rows: got.rows.into_iter().map(usage_row).collect(),
        next_page_token: got.next_page_token,
        total: Some(usage_row(got.total)),
    }))
}

fn usage_asked(request: &GetUsageRequest) -> Result<(Period, Grouping), Error> {
    let period = usage::period(&request.start_day, &request.end_day)?;
    let period = Period { tool_name: text(&request.tool_name), agent_id: text(&request.agent_id), ..period };
    let paths = request.group_by.as_ref().map(|mask| mask.paths.as_slice()).unwrap_or_default();
    Ok((period, grouping(paths)?))
}

fn grouping(paths: &[String]) -> Result<Grouping, Error> {
    if paths.is_empty() {
        return Ok(Grouping { day: true, ..Grouping::default() });
    }
    let mut by = Grouping::default();
    for path in paths {
        match path.as_str() {
            "day" => by.day = true,
            "tool_name" => by.tool = true,
            "agent_id" => by.agent = true,
            "sensitivity" => by.classification = true,
            "team" => {}
            other => {
                let known = "day, tool_name, agent_id, sensitivity or team";
                return Err(Error::invalid(
                    "group_by",
                    format!("has the path {other:?}; it may have {known}"),
                ));
            }
        }
    }
    Ok(by)
}

fn usage_row(row: UseRow) -> UsageRow {
    let looked_up = row.cache_hits + row.cache_misses;
    UsageRow {
        cache_hit_rate: if looked_up == 0 { 0.0 } else { row.cache_hits as f64 / looked_up as f64 },
        avg_duration_ms: if row.calls == 0 {
            0.0
        } else {
            row.duration_us as f64 / row.calls as f64 / 1_000.0
        },
        sensitivity: sensitivity(&row.classification).into(),
        day: row.day,
        tool_name: row.tool_name,
        agent_id: row.agent_id,
        calls: row.calls,
        successes: row.successes,
        failures: row.failures,
        unknown: row.unknown,
        denials: row.denials,
        cache_hits: row.cache_hits,
        cache_misses: row.cache_misses,
        cost_micro_usd: row.cost_micro_usd,
    }
}

pub(super) async fn get_costs(
    service: &Service,
    request: Request<GetCostsRequest>,
) -> Result<Response<GetCostsResponse>, Status> {
    let call = Call::of(&request).map_err(|status| *status)?;
    let request = request.into_inner();
    let period = usage::period(&request.start_day, &request.end_day).map_err(|error| status(&error))?;
    let period = Period { task_id: text(&request.task_id), agent_id: text(&request.agent_id), ..period };
    let group = match request.group() {
        CostGroup::Unspecified | CostGroup::Task => Group::Task,
        CostGroup::Agent => Group::Agent,
        CostGroup::Tool => Group::Tool,
        CostGroup::Day => Group::Day,
    };
    let page = (request.page_size, request.page_token.as_str());
    let got = costs::get_costs(&service.database, &service.pages, &call.caller, group, period, page).await;
    let got = got.map_err(|error| status(&error))?;
    let budget = costs::budget(&service.permissions, &service.outgoing, &call.caller, call.time_left()).await;
    Ok(Response::new(GetCostsResponse {
        rows: got.rows.into_iter().map(cost_row).collect(),
        next_page_token: got.next_page_token,
        total_micro_usd: got.total_micro_usd,
        budgets: budget.map_err(|error| status(&error))?.into_iter().map(budget_state).collect(),
    }))
}

fn cost_row(row: CostRow) -> WireCost {
    WireCost {
        key: row.key,
        cost_micro_usd: row.cost_micro_usd,
        calls: row.calls,
        failures: row.failures,
        first_time: Some(timestamp(row.first_time)),
        last_time: Some(timestamp(row.last_time)),
    }
}

fn budget_state(budget: Budget) -> BudgetState {
    BudgetState {
        agent_id: String::new(),
        limit_micro_usd: budget.daily_micro_usd,
        used_micro_usd: budget.spent_micro_usd + budget.reserved_micro_usd,
        reset_time: budget.reset_time,
        threshold_percent: budget.threshold_percent,
    }
}

fn text(value: &str) -> Option<String> {
    (!value.is_empty()).then(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_told_apart_by_what_is_asked_for_and_nothing_else() {
        let of = |paths: &[&str]| grouping(&paths.iter().map(|path| (*path).to_owned()).collect::<Vec<_>>());
        assert_eq!(of(&[]).unwrap(), Grouping { day: true, ..Grouping::default() });
        assert_eq!(of(&["team"]).unwrap(), Grouping::default());
        let both = Grouping { tool: true, agent: true, ..Grouping::default() };
        assert_eq!(of(&["tool_name", "agent_id"]).unwrap(), both);
        let told = of(&["user"]).unwrap_err().to_string();
        assert!(told.contains("group_by") && told.contains("sensitivity"), "{told}");
    }

    #[test]
    fn rates_and_averages_are_of_what_there_is() {
        let none = usage_row(UseRow::default());
        assert!(none.cache_hit_rate.abs() < f64::EPSILON && none.avg_duration_ms.abs() < f64::EPSILON);
        let row =
            UseRow { calls: 4, duration_us: 10_000, cache_hits: 1, cache_misses: 3, ..UseRow::default() };
        let row = usage_row(row);
        assert!((row.cache_hit_rate - 0.25).abs() < 1e-9 && (row.avg_duration_ms - 2.5).abs() < 1e-9);
    }
}
