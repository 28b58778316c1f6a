//! Explaining decisions, and reports on the use of grants: parse, call the use case, map.

use ::rpc::Call;
use proto::{
    permissions::v1::{
        ExplainRequest, ExplainResponse, GetUsageReportRequest, GetUsageReportResponse, Grant,
        GrantExplanation, GrantUsage, ToolFacts, grant::Grantee,
    },
    types::v1::{Effect, Sensitivity},
};

use super::{Service, grant, identities::agent, now, quota, reason_name, time, timestamp};
use crate::{
    Error, condition,
    explaining::{Explained, GrantExplained, Question},
    report_usage::{LeastGrant, Report},
};

pub(super) async fn explain(
    service: &Service,
    call: &Call,
    request: ExplainRequest,
) -> Result<ExplainResponse, Error> {
    let question = Question {
        agent: request.agent_id,
        tool: request.tool_name,
        arguments: request.arguments_json,
        user: request.user,
        at: request.time.map(|at| time("time", at)).transpose()?,
    };
    let (registry, database) = ((&service.registry, &service.outgoing), &service.database);
    let explained =
        crate::explaining::explain(database, &service.desk, registry, &call.caller, question, now());
    Ok(response(explained.await?))
}

pub(super) async fn usage_report(
    service: &Service,
    call: &Call,
    request: GetUsageReportRequest,
) -> Result<GetUsageReportResponse, Error> {
    let (days, agent) = (request.days, request.agent_id.as_str());
    let report = crate::report_usage::report_usage(&service.database, &call.caller, days, agent, now());
    Ok(usage_response(report.await?))
}

fn response(explained: Explained) -> ExplainResponse {
    let Explained { decision, grants, budget, agent: known, tool, tool_digest } = explained;
    ExplainResponse {
        allowed: decision.reason.is_none(),
        reason: reason_name(decision.reason),
        message: decision.message,
        grant_id: decision.grant_id.map(|id| id.to_string()).unwrap_or_default(),
        policy_ids: decision.policies,
        grants: grants.into_iter().map(grant_explanation).collect(),
        budget: budget.map(quota),
        revision: decision.revision,
        agent: Some(agent(known)),
        tool: Some(ToolFacts {
            tool_name: tool.name,
            effect: Effect::from(tool.effect).into(),
            sensitivity: Sensitivity::from(tool.sensitivity).into(),
        }),
        tool_digest,
    }
}

fn grant_explanation(explained: GrantExplained) -> GrantExplanation {
    GrantExplanation {
        allowed: explained.reasons.is_empty(),
        reasons: explained.reasons.into_iter().map(|reason| reason_name(Some(reason))).collect(),
        policy_ids: explained.policies,
        quotas: explained.quotas.into_iter().map(quota).collect(),
        unmet_conditions: explained.unmet,
        access_request_id: explained.approval.map(|id| id.to_string()).unwrap_or_default(),
        grant: Some(grant(explained.grant)),
    }
}

fn usage_response(report: Report) -> GetUsageReportResponse {
    let grants = report.grants.into_iter().map(|(listed, used)| GrantUsage {
        calls: used.as_ref().map_or(0, |used| used.calls),
        last_use_time: used.as_ref().map(|used| timestamp(used.last_hour)),
        tools: used.map(|used| used.tools).unwrap_or_default(),
        grant: Some(grant(listed)),
    });
    GetUsageReportResponse {
        start_time: Some(timestamp(report.start_time)),
        grants: grants.collect(),
        least_grants: report.least.into_iter().map(least).collect(),
        counted_since: Some(timestamp(report.counted_since)),
    }
}

fn least(least: LeastGrant) -> Grant {
    let like = least.like.as_ref();
    Grant {
        grantee: Some(Grantee::AgentId(least.agent)),
        tool_name: least.tool,
        max_per_hour: least.max_per_hour,
        max_per_day: least.max_per_day,
        read_only: least.read_only,
        max_sensitivity: least.max_sensitivity.map(Sensitivity::from).unwrap_or_default().into(),
        conditions: like.map(|grant| condition::to_wire(&grant.conditions)).unwrap_or_default(),
        approver_role: like
            .and_then(|grant| grant.approver_role)
            .map_or(0, |role| proto::permissions::v1::Role::from(role).into()),
        note: least.note,
        ..Grant::default()
    }
}
