//! SelectTools on the wire.

use ::rpc::Call;
use proto::{
    selector::v1::{ModelHelp, NearMiss, NextTool, RankedTool, SelectToolsRequest, SelectToolsResponse},
    types::v1::{self as wire, Sensitivity},
};

use super::{Service, category, count, effectiveness::trend, mode};
use crate::{
    Error,
    answer::{Choice, MissedTool},
    predict,
    select::Selection,
    wanted::Wanted,
};

/// Alternatives when the request does not say.
const DEFAULT_ALTERNATIVES: usize = 2;

pub(super) async fn select(
    service: &Service,
    call: Call,
    request: SelectToolsRequest,
) -> Result<SelectToolsResponse, Error> {
    let wanted = wanted(request)?;
    let selection = service.selector.select(&call, &wanted).await?;
    Ok(answer(&wanted, selection))
}

fn wanted(request: SelectToolsRequest) -> Result<Wanted, Error> {
    let sensitivity = Sensitivity::try_from(request.max_sensitivity)
        .map_err(|_| Error::invalid("max_sensitivity", "is not a value of its enum"))?;
    let alternatives = match request.alternatives {
        None => DEFAULT_ALTERNATIVES,
        // One below 0 is as wrong as one too large.
        Some(asked) => usize::try_from(asked).unwrap_or(usize::MAX),
    };
    let wanted = Wanted {
        capabilities: request.required_capabilities.iter().map(|word| word.trim().to_lowercase()).collect(),
        category: category("category", request.category)?,
        max_latency_ms: request.max_latency_ms,
        max_cost_micro_usd: request.max_cost_micro_usd,
        max_sensitivity: sensitivity.into(),
        available_time_ms: request.available_time_ms,
        alternatives,
        task_id: request.task_id,
        explore: request.explore,
        model_help: request.model_help,
        ..Wanted::default()
    };
    Ok(wanted.with_task(request.task))
}

fn answer(wanted: &Wanted, selection: Selection) -> SelectToolsResponse {
    let helped = selection.helped;
    let mut tools = selection.choices.into_iter().map(ranked);
    SelectToolsResponse {
        selection_id: selection.id.to_string(),
        primary: tools.next(),
        alternatives: tools.collect(),
        candidate_count: count(selection.candidate_count),
        excluded: selection.excluded.into_iter().collect(),
        confidence: selection.confidence,
        unsuitable_reason: selection.unsuitable_reason,
        nearest_misses: selection.nearest_misses.into_iter().map(missed).collect(),
        pinned: selection.pinned.into_iter().map(ranked).collect(),
        mode: mode(selection.mode).into(),
        mode_reason: selection.mode_reason,
        vectors_pending: count(selection.vectors_pending),
        task_cut_at: wanted.cut_at.map_or(0, count),
        task_category: selection.task_category.map_or(0, |category| wire::Category::from(category).into()),
        implied_capabilities: selection.implied_capabilities,
        next_tools: selection.next_tools.into_iter().map(next).collect(),
        policy_version: selection.policy_version,
        model_help: Some(ModelHelp {
            used: !helped.uses.is_empty(),
            r#for: helped.uses.into_iter().map(str::to_owned).collect(),
            skipped: helped.skipped.to_owned(),
        }),
    }
}

fn ranked(choice: Choice) -> RankedTool {
    let signals = choice.signals().into_iter().collect();
    let (scores, standing) = (choice.scores, choice.standing);
    let figures = standing.figures;
    RankedTool {
        name: choice.name,
        tool_id: choice.tool_id,
        description: choice.description,
        match_score: scores.matching,
        suitability_score: scores.suitability,
        combined_score: scores.combined,
        capability_score: scores.capability,
        text_score: scores.text,
        reason: choice.reason,
        executions: figures.map_or(0, |figures| figures.executions),
        semantic_score: scores.semantic,
        signals,
        success_rate: figures.map(|figures| figures.success_rate),
        average_ms: figures.map(|figures| figures.average_ms),
        average_cost_micro_usd: figures.map(|figures| figures.average_cost_micro_usd),
        quality: standing.quality,
        trend: trend(standing.trend.direction).into(),
        pinned: choice.is_pinned,
    }
}

fn missed(tool: MissedTool) -> NearMiss {
    NearMiss {
        name: tool.name,
        reason: tool.reason,
        explanation: tool.explanation,
        semantic_score: tool.semantic,
    }
}

fn next(tool: predict::NextTool) -> NextTool {
    NextTool { name: tool.name, probability: tool.probability, count: tool.count }
}
