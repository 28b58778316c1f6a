//! RefitPolicy, ActivatePolicy and ListPolicies on the wire.

use ::rpc::Call;
use proto::selector::v1::{
    self as wire, ActivatePolicyRequest, ActivatePolicyResponse, ListPoliciesRequest, ListPoliciesResponse,
    PolicyEvaluation, PolicyWeights, RefitPolicyRequest, RefitPolicyResponse, policy,
};

use super::{Service, timestamp};
use crate::{
    Error,
    policy::{Evaluation, Policy, State, Weights, refit as refit_weights},
};

pub(super) async fn refit(
    service: &Service,
    call: Call,
    request: RefitPolicyRequest,
) -> Result<RefitPolicyResponse, Error> {
    let made = refit_weights(&service.policies, &service.database, &call, request.activate).await?;
    Ok(RefitPolicyResponse { policy: Some(told(made)) })
}

pub(super) async fn activate(
    service: &Service,
    call: Call,
    request: ActivatePolicyRequest,
) -> Result<ActivatePolicyResponse, Error> {
    let made = service.policies.activate(&service.database, &call.caller.team, request.version).await?;
    Ok(ActivatePolicyResponse { policy: Some(told(made)) })
}

pub(super) async fn list(
    service: &Service,
    call: Call,
    _: ListPoliciesRequest,
) -> Result<ListPoliciesResponse, Error> {
    let policies = service.policies.list(&service.database, &call.caller.team).await?;
    Ok(ListPoliciesResponse { policies: policies.into_iter().map(told).collect() })
}

fn told(policy: Policy) -> wire::Policy {
    let state = match policy.state {
        State::Candidate => policy::State::Candidate,
        State::Active => policy::State::Active,
        State::Retired => policy::State::Retired,
        State::Refused => policy::State::Refused,
    };
    wire::Policy {
        version: policy.version,
        state: state.into(),
        weights: Some(weights(policy.weights)),
        evaluation: policy.evaluation.map(evaluation),
        create_agent_id: policy.create_agent_id,
        create_time: policy.create_time.map(timestamp),
        activate_time: policy.activate_time.map(timestamp),
    }
}

fn weights(weights: Weights) -> PolicyWeights {
    let Weights { matching, capability, success, latency, cost, quality } = weights;
    PolicyWeights { r#match: matching, capability, success, latency, cost, quality }
}

fn evaluation(evaluation: Evaluation) -> PolicyEvaluation {
    let Evaluation { selections, reward_before, reward_after, gain_low, gain_high, agreement, refusal } =
        evaluation;
    PolicyEvaluation { selections, reward_before, reward_after, gain_low, gain_high, agreement, refusal }
}
