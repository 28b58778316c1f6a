//! GetEffectiveness on the wire.

use ::rpc::Call;
use proto::{
    selector::v1::{
        CategoryEffectiveness, DegradationAlarm, Effectiveness, GetEffectivenessRequest,
        GetEffectivenessResponse, Trend,
    },
    types::v1::Category,
};

use super::{Service, timestamp};
use crate::{
    Error,
    learn::{self, Direction, WantedEffectiveness, effectiveness},
};

pub(super) async fn get(
    service: &Service,
    call: Call,
    request: GetEffectivenessRequest,
) -> Result<GetEffectivenessResponse, Error> {
    let wanted = wanted(&request)?;
    let (_, weights) = service.policies.of(&call.caller.team);
    let place = (&service.database, &service.learned, &service.pages);
    let page = (request.page_size, request.page_token.as_str());
    let callable = (&service.selector.indexes, &service.selector.permissions);
    let (tools, next_page_token) = effectiveness(place, callable, &call, &wanted, weights, page).await?;
    Ok(GetEffectivenessResponse { tools: tools.into_iter().map(told).collect(), next_page_token })
}

fn wanted(request: &GetEffectivenessRequest) -> Result<WantedEffectiveness, Error> {
    for (field, text) in [("tool_name", &request.tool_name), ("agent_id", &request.agent_id)] {
        if text.contains('\0') {
            return Err(Error::invalid(field, "must not contain NUL"));
        }
    }
    let category = Category::try_from(request.category)
        .map_err(|_| Error::invalid("category", "is not a value of its enum"))?;
    Ok(WantedEffectiveness {
        tool: request.tool_name.clone(),
        agent: request.agent_id.clone(),
        category: category.into(),
    })
}

/// A trend on the wire.
pub(super) fn trend(direction: Direction) -> Trend {
    match direction {
        Direction::Unknown => Trend::Unspecified,
        Direction::Improving => Trend::Improving,
        Direction::Stable => Trend::Stable,
        Direction::Degrading => Trend::Degrading,
    }
}

fn told(tool: learn::Effectiveness) -> Effectiveness {
    let counts = tool.counts;
    Effectiveness {
        tool_name: tool.tool,
        executions: counts.executions,
        successes: counts.successes,
        weight: counts.weight,
        success_rate: counts.success_rate(),
        success_rate_low: tool.interval.0,
        success_rate_high: tool.interval.1,
        average_ms: counts.average_ms(),
        p95_ms: tool.p95_ms,
        average_cost_micro_usd: counts.average_cost(),
        quality: counts.average_quality(),
        feedbacks: counts.feedbacks,
        suitability_score: tool.suitability,
        trend: trend(tool.trend.direction).into(),
        trend_p_value: tool.trend.p_value,
        trend_of: tool.trend.of.to_owned(),
        alarm: tool.alarm.map(alarm),
        categories: tool.categories.iter().map(of_category).collect(),
    }
}

fn alarm(alarm: learn::Alarm) -> DegradationAlarm {
    DegradationAlarm {
        start_time: Some(timestamp(alarm.start_time)),
        rate_before: alarm.rate_before,
        rate_since: alarm.rate_since,
        failure_reason: alarm.failure_reason,
    }
}

fn of_category(of: &learn::OfCategory) -> CategoryEffectiveness {
    CategoryEffectiveness {
        category: Category::from(of.category).into(),
        executions: of.counts.executions,
        success_rate: of.counts.success_rate(),
        suitability_score: of.suitability,
    }
}
