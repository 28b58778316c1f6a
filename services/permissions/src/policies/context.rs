//! What the policies are told of a call under a grant, in the types of the schema. Pure; nothing here decides.

use cedar_policy::{Context, RestrictedExpression as Value};
use chrono::SecondsFormat;
use types::Sensitivity;

use super::{Call, arguments::Arguments, text};
use crate::{decide::Candidate, store::GrantRow};

/// What can go wrong: a name that stands twice, which none does.
type Fault = Box<dyn std::error::Error>;

/// The context of a call under a grant, or under none. The arguments, the time of day and the user are told only to
/// whoever asks for them: the platform's own policies do not.
pub(super) fn context(
    candidate: Option<&Candidate>,
    call: &Call<'_>,
    arguments: Option<&Arguments>,
) -> Result<Context, Fault> {
    let (limits, used) = match candidate {
        Some(Candidate { grant, used, .. }) => {
            let limits = [grant.max_per_hour, grant.max_per_day, grant.max_total];
            (limits, [used.hour, used.day, used.total])
        }
        None => ([0; 3], [0; 3]),
    };
    let mut pairs = vec![
        ("now".to_owned(), Value::new_long(call.now.timestamp_micros())),
        ("grant".to_owned(), grant_facts(candidate)?),
        ("budget".to_owned(), budget(call)?),
    ];
    for ((name, limit), used) in ["hour", "day", "total"].into_iter().zip(limits).zip(used) {
        pairs.push((name.to_owned(), quota(limit, used)?));
    }
    if let Some(arguments) = arguments {
        let time = call.now.to_rfc3339_opts(SecondsFormat::Millis, true);
        pairs.push(("time".to_owned(), Value::new_datetime(time)));
        pairs.push(("user".to_owned(), text(call.user)));
        pairs.push(("arguments".to_owned(), arguments.facts()?));
    }
    Ok(Context::from_pairs(pairs)?)
}

fn grant_facts(candidate: Option<&Candidate>) -> Result<Value, Fault> {
    let grant = candidate.map(|candidate| candidate.grant.as_ref());
    let (kind, holder) = match grant {
        Some(GrantRow { agent_id: Some(agent), .. }) => ("agent", agent.as_str()),
        Some(GrantRow { specialization: Some(specialization), .. }) => {
            ("specialization", specialization.as_str())
        }
        Some(_) | None => ("none", ""),
    };
    let expire_time = grant.and_then(|grant| grant.expire_time);
    record(vec![
        ("team", text(grant.map_or("", |grant| &grant.team_id))),
        ("kind", text(kind)),
        ("holder", text(holder)),
        ("tool", text(grant.map_or("", |grant| &grant.tool_name))),
        ("readOnly", Value::new_bool(grant.is_some_and(|grant| grant.read_only))),
        ("maxSensitivity", Value::new_long(grant.map_or(i64::MAX, max_sensitivity))),
        ("expireTime", Value::new_long(expire_time.map_or(i64::MAX, |at| at.timestamp_micros()))),
        ("withinHours", Value::new_bool(candidate.is_none_or(|candidate| candidate.within_hours))),
        ("conditionsMet", Value::new_bool(candidate.is_none_or(|candidate| candidate.unmet.is_empty()))),
        ("approved", Value::new_bool(candidate.is_none_or(Candidate::is_approved))),
    ])
}

fn quota(limit: i64, used: i64) -> Result<Value, Fault> {
    record(vec![
        ("limited", Value::new_bool(limit > 0)),
        ("limit", Value::new_long(limit)),
        ("used", Value::new_long(used)),
    ])
}

fn budget(call: &Call<'_>) -> Result<Value, Fault> {
    let budget = call.budget;
    record(vec![
        ("limited", Value::new_bool(budget.limit > 0)),
        ("limit", Value::new_long(budget.limit)),
        ("used", Value::new_long(budget.used)),
        ("cost", Value::new_long(budget.cost)),
    ])
}

pub(super) fn record(fields: Vec<(&str, Value)>) -> Result<Value, Fault> {
    Ok(Value::new_record(fields.into_iter().map(|(name, value)| (name.to_owned(), value)))?)
}

/// The highest level that a grant admits; a word that is not known admits nothing.
fn max_sensitivity(grant: &GrantRow) -> i64 {
    match &grant.max_sensitivity {
        None => i64::MAX,
        Some(word) => word.parse().map_or(-1, |level: Sensitivity| level as i64),
    }
}
