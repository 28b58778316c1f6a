//! Policies of teams: parse, call the use case, map.

use ::rpc::Call;
use proto::permissions::v1::{
    ChangedDecision, DryRunPolicyRequest, DryRunPolicyResponse, ListPoliciesRequest, ListPoliciesResponse,
    Policy, PutPolicyRequest, PutPolicyResponse, RemovePolicyRequest, RemovePolicyResponse,
};

use super::{Service, now, time, timestamp};
use crate::{
    Error,
    dry_run::{Changed, DryRun, Proposal},
    list_policies::{ListedPolicy, list_policies},
    policies::team::SCHEMA_TEXT,
    put_policy::{NewPolicy, put_policy, remove_policy},
};

pub(super) async fn put(
    service: &Service,
    call: &Call,
    request: PutPolicyRequest,
) -> Result<PutPolicyResponse, Error> {
    let new = NewPolicy {
        name: request.name,
        text: request.text,
        validate_only: request.validate_only,
        expected_version: request.expected_version,
    };
    let put = put_policy(&service.database, &service.desk.teams, &call.caller, new, now()).await?;
    let revision = put.revision;
    Ok(PutPolicyResponse { policy: Some(message(put.into())), revision })
}

pub(super) async fn remove(
    service: &Service,
    call: &Call,
    request: RemovePolicyRequest,
) -> Result<RemovePolicyResponse, Error> {
    let (teams, caller) = (&service.desk.teams, &call.caller);
    let removed = remove_policy(&service.database, teams, caller, &request.name, now()).await?;
    let revision = removed.revision;
    Ok(RemovePolicyResponse { policy: Some(message(removed.into())), revision })
}

pub(super) async fn list(
    service: &Service,
    call: &Call,
    request: ListPoliciesRequest,
) -> Result<ListPoliciesResponse, Error> {
    let team = &call.caller.team;
    let listed = list_policies(&service.database, team, &request.name, request.include_removed).await?;
    let policies = listed.into_iter().map(message).collect();
    Ok(ListPoliciesResponse { policies, schema: SCHEMA_TEXT.to_owned() })
}

pub(super) async fn dry_run(
    service: &Service,
    call: &Call,
    request: DryRunPolicyRequest,
) -> Result<DryRunPolicyResponse, Error> {
    let proposal = Proposal {
        name: request.name,
        text: request.text,
        start_time: request.start_time.map(|at| time("start_time", at)).transpose()?,
        max_calls: request.max_calls,
    };
    let run = DryRun {
        desk: &service.desk,
        registry: &service.registry,
        audit: &service.audit,
        outgoing: &service.outgoing,
        caller: &call.caller,
        time_left: call.time_left(),
    };
    let report = run.run(proposal, now()).await?;
    Ok(DryRunPolicyResponse {
        calls: report.calls,
        newly_denied: report.newly_denied,
        newly_allowed: report.newly_allowed,
        undecided: report.undecided,
        changed: report.changed.into_iter().map(changed).collect(),
        complete: report.incomplete.is_none(),
        incomplete_reason: report.incomplete.unwrap_or_default(),
        oldest_time: report.oldest.map(timestamp),
    })
}

fn changed(changed: Changed) -> ChangedDecision {
    ChangedDecision {
        event_id: changed.event_id,
        time: Some(timestamp(changed.time)),
        agent_id: changed.agent_id,
        tool_name: changed.tool_name,
        was_allowed: changed.was_allowed,
        would_be_allowed: !changed.was_allowed,
        policy_ids: changed.policies,
        execution_id: changed.execution_id,
    }
}

fn message(listed: ListedPolicy) -> Policy {
    let row = listed.policy;
    Policy {
        name: row.name,
        text: row.policy_text,
        version: row.version,
        create_time: Some(timestamp(row.create_time)),
        created_by: row.created_by,
        remove_time: row.remove_time.map(timestamp),
        fault: listed.fault,
    }
}
