//! The gRPC face of the selector service: parse, call the use case, map.

use ::rpc::{Call, status};
use chrono::{DateTime, Utc};
use proto::{
    selector::v1::{
        Outcome, RankedTool, RecordOutcomesRequest, RecordOutcomesResponse, SelectToolsRequest,
        SelectToolsResponse, selector_service_server::SelectorService,
    },
    types::v1::{Category, Sensitivity},
};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use crate::{
    Error,
    ledger::Ledger,
    record::record,
    select::{Choice, Selection, Selector, Wanted},
    store::OutcomeRow,
};

/// Alternatives when the request does not say.
const DEFAULT_ALTERNATIVES: usize = 2;

pub(crate) struct Service {
    pub ledger: Ledger,
    pub selector: Selector,
}

#[tonic::async_trait]
impl SelectorService for Service {
    async fn select_tools(
        &self,
        request: Request<SelectToolsRequest>,
    ) -> Result<Response<SelectToolsResponse>, Status> {
        let call = Call::of(&request).map_err(|status| *status)?;
        let wanted = wanted(request.into_inner()).map_err(|error| status(&error))?;
        let selection = self.selector.select(&call, wanted).await.map_err(|error| status(&error))?;
        Ok(Response::new(answer(selection)))
    }

    async fn record_outcomes(
        &self,
        request: Request<RecordOutcomesRequest>,
    ) -> Result<Response<RecordOutcomesResponse>, Status> {
        let outcomes = request.into_inner().outcomes.into_iter().enumerate();
        let rows = outcomes.map(|(index, outcome)| row(index, &outcome)).collect::<Result<_, _>>();
        let rows = rows.map_err(|error| status(&error))?;
        let recorded = record(&self.ledger, rows).await.map_err(|error| status(&error))?;
        Ok(Response::new(RecordOutcomesResponse { recorded: i32::try_from(recorded).unwrap_or(i32::MAX) }))
    }
}

fn wanted(request: SelectToolsRequest) -> Result<Wanted, Error> {
    let unknown = |field: &str| Error::invalid(field, "is not a value of its enum");
    let category = Category::try_from(request.category).map_err(|_| unknown("category"))?;
    let sensitivity =
        Sensitivity::try_from(request.max_sensitivity).map_err(|_| unknown("max_sensitivity"))?;
    let alternatives = match request.alternatives {
        0 => DEFAULT_ALTERNATIVES,
        // One below 0 is as wrong as one too large.
        asked => usize::try_from(asked).unwrap_or(usize::MAX),
    };
    Ok(Wanted {
        task: request.task,
        capabilities: request.required_capabilities.iter().map(|word| word.trim().to_lowercase()).collect(),
        category: category.into(),
        max_latency_ms: request.max_latency_ms,
        max_cost_micro_usd: request.max_cost_micro_usd,
        max_sensitivity: sensitivity.into(),
        alternatives,
        task_id: request.task_id,
    })
}

fn answer(selection: Selection) -> SelectToolsResponse {
    let mut tools = selection.choices.into_iter().map(ranked);
    SelectToolsResponse {
        selection_id: selection.id.to_string(),
        primary: tools.next(),
        alternatives: tools.collect(),
        candidate_count: i32::try_from(selection.candidate_count).unwrap_or(i32::MAX),
        excluded: selection.excluded.into_iter().collect(),
    }
}

fn ranked(choice: Choice) -> RankedTool {
    RankedTool {
        name: choice.name,
        tool_id: choice.tool_id,
        description: choice.description,
        match_score: choice.scores.matching,
        suitability_score: choice.scores.suitability,
        combined_score: choice.scores.combined,
        capability_score: choice.scores.capability,
        text_score: choice.scores.text,
        reason: choice.reason,
        executions: choice.executions,
    }
}

fn row(index: usize, outcome: &Outcome) -> Result<OutcomeRow, Error> {
    let field = |name: &str| format!("outcomes[{index}].{name}");
    let required = |name: &str, value: &str| {
        if value.is_empty() { Err(Error::invalid(field(name), "is not set")) } else { Ok(value.to_owned()) }
    };
    if !outcome.duration_ms.is_finite() || outcome.duration_ms < 0.0 {
        return Err(Error::invalid(field("duration_ms"), "must be 0 or more"));
    }
    if outcome.cost_micro_usd < 0 {
        return Err(Error::invalid(field("cost_micro_usd"), "must be 0 or more"));
    }
    Ok(OutcomeRow {
        event_id: id(&field("event_id"), &required("event_id", &outcome.event_id)?)?.unwrap_or_default(),
        team_id: required("team_id", &outcome.team_id)?,
        agent_id: required("agent_id", &outcome.agent_id)?,
        tool_name: required("tool_name", &outcome.tool_name)?,
        execution_id: id(&field("execution_id"), &outcome.execution_id)?,
        selection_id: id(&field("selection_id"), &outcome.selection_id)?,
        succeeded: outcome.succeeded,
        duration_ms: outcome.duration_ms,
        cost_micro_usd: outcome.cost_micro_usd,
        event_time: time(&field("time"), outcome.time)?,
    })
}

fn id(field: &str, text: &str) -> Result<Option<Uuid>, Error> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| Error::invalid(field, "is not a UUID"))
}

fn time(field: &str, at: Option<prost_types::Timestamp>) -> Result<DateTime<Utc>, Error> {
    at.and_then(|at| DateTime::from_timestamp(at.seconds, u32::try_from(at.nanos).ok()?))
        .ok_or_else(|| Error::invalid(field, "is not set or not a time"))
}
