//! Another tool in place of one that failed. Never runs one where the first may have taken effect and must not
//! take effect twice, and never one that the caller may not call.

mod expression;

use std::sync::Arc;

use proto::registry::v1::{Fallback, FallbackCondition, Tool};
use serde_json::{Value, json};

use crate::{
    Error, Executor,
    attempt::{Candidate, Tried, clean_all, with_retries},
    authorize::{Reserved, question},
    invoke::digest,
    outcome::{AttemptKind, Reached, ToolError, ToolErrorCode},
    perform::{AttemptLog, Spent},
    resolve::definition,
    run::Run,
    settings::{self, Settings},
};

/// The fallbacks that stand in after this failure, in their order.
pub(crate) fn in_order<'a>(settings: &'a Settings, error: &ToolError) -> Vec<&'a Fallback> {
    let stands_in =
        |fallback: &&Fallback| fallback.conditions().any(|condition| covers(condition, error.code));
    let mut fallbacks: Vec<&Fallback> = settings.fallbacks.iter().filter(stands_in).collect();
    fallbacks.sort_by_key(|fallback| fallback.priority);
    fallbacks
}

/// Whether a condition names a failure of this kind.
fn covers(condition: FallbackCondition, code: ToolErrorCode) -> bool {
    use ToolErrorCode as Code;
    match condition {
        FallbackCondition::Timeout => code == Code::Timeout,
        FallbackCondition::RateLimit => {
            matches!(code, Code::UpstreamRateLimited | Code::RateLimited | Code::ToolBusy)
        }
        FallbackCondition::AuthFailure => code == Code::UpstreamAuth,
        FallbackCondition::InvalidData => matches!(code, Code::InvalidResult | Code::ResultTooLarge),
        FallbackCondition::Any => code != Code::OwnerDied,
        FallbackCondition::Unspecified => false,
    }
}

/// Whether another tool may do the work now: the first has surely not, or it changes nothing that may not be done
/// twice. An idempotency key does not help here: another tool does not know what was done under it.
pub(crate) fn is_safe(asked: &Candidate<'_>, reached: Reached) -> bool {
    reached == Reached::No || !asked.has_side_effect()
}

/// Tries a fallback: it must be there, take the arguments, and be allowed to the caller.
pub(crate) async fn attempt(
    executor: &Executor,
    run: &Run,
    fallback: &Fallback,
    error: &ToolError,
    log: &AttemptLog,
) -> Tried {
    let before = log.spent();
    let prepared = prepare(executor, run, fallback, error).await;
    let (tool, arguments, _place) = match prepared {
        Ok((tool, arguments, reserved)) => (tool, arguments, Place { reserved: Some(reserved), log, before }),
        Err((tool, failed)) => {
            let arguments = Value::Null;
            log.begin(&Candidate::fallback(&tool, &arguments), AttemptKind::Fallback, 0.0);
            log.end(Some(failed.clone()));
            return Tried::failed(failed);
        }
    };
    let candidate = Candidate::fallback(&tool, &arguments);
    with_retries(executor, run, &candidate, AttemptKind::Fallback, log).await
}

/// What a fallback holds of the caller's limits. Goes to the log when this is dropped: when its run is cancelled or
/// panics too.
struct Place<'a> {
    reserved: Option<Reserved>,
    log: &'a AttemptLog,
    before: Spent,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let spent = self.log.spent();
        if let Some(reserved) = self.reserved.take() {
            let cost = spent.fallbacks_micro_usd - self.before.fallbacks_micro_usd;
            self.log.charge(reserved.charge(spent.calls > self.before.calls, cost));
        }
    }
}

type Prepared = (Arc<Tool>, Value, Reserved);
type Unusable = (Arc<Tool>, ToolError);

async fn prepare(
    executor: &Executor,
    run: &Run,
    fallback: &Fallback,
    error: &ToolError,
) -> Result<Prepared, Unusable> {
    let named = || Arc::new(unknown(&fallback.tool));
    let unusable = |tool: Arc<Tool>, error: &Error| {
        let code = match error {
            Error::Denied { .. } | Error::Unapproved { .. } => ToolErrorCode::Denied,
            _ => ToolErrorCode::FallbackUnusable,
        };
        (tool, ToolError::new(code, ::rpc::ServiceError::public_message(error)))
    };
    let tool =
        executor.resolver.resolve(&run.caller, &fallback.tool).await.map_err(|e| unusable(named(), &e))?;
    run.progress.keep_to(&settings::redaction(&tool));
    let with = |error: Error| unusable(Arc::clone(&tool), &error);
    let arguments = arguments(run, fallback, error)
        .await
        .map_err(|why| (Arc::clone(&tool), ToolError::new(ToolErrorCode::FallbackUnusable, why)))?;
    let definition = definition(&tool).map_err(with)?;
    let stands_in = Candidate::fallback(&tool, &arguments);
    if stands_in.has_side_effect() && !Candidate::asked_for(run).has_side_effect() {
        // What is recorded as read-only may be run again after a crash.
        let message = "it has side effects, and the tool it stands in for has none";
        return Err((Arc::clone(&tool), ToolError::new(ToolErrorCode::FallbackUnusable, message)));
    }
    let mut violations = executor.schemas.check(&definition.input_schema_json, &arguments);
    if !violations.is_empty() {
        // They are recorded, and a name that the schema does not expect may be a secret.
        clean_all(&run.progress.rules(), &mut violations);
        let message = "the arguments made for it break its input schema";
        let failed = ToolError::new(ToolErrorCode::FallbackUnusable, message);
        return Err((Arc::clone(&tool), ToolError { violations, ..failed }));
    }
    let asked = |digest| question(&tool, &arguments.to_string(), digest, types::new_id());
    let question = digest(&arguments).and_then(asked);
    let reserved = executor.authorizer.reserve(&executor.runs, &run.caller, question.map_err(with)?).await;
    let reserved = reserved.map_err(with)?;
    Ok((tool, arguments, reserved))
}

/// A tool of which only the name is known, for the record.
fn unknown(name: &str) -> Tool {
    let definition = proto::registry::v1::ToolDefinition { name: name.to_owned(), ..Default::default() };
    Tool { definition: Some(definition), ..Tool::default() }
}

/// The fallback's arguments: the same, or what its expression makes of them.
async fn arguments(run: &Run, fallback: &Fallback, error: &ToolError) -> Result<Value, String> {
    if fallback.arguments.is_empty() {
        return Ok(run.arguments.clone());
    }
    let error = json!({ "code": error.code.as_str(), "message": error.message });
    let tool = json!(run.execution.tool_name);
    let variables = vec![("arguments", run.arguments.clone()), ("error", error), ("tool", tool)];
    expression::evaluate(fallback.arguments.clone(), variables).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fallback(tool: &str, priority: i32, conditions: &[FallbackCondition]) -> Fallback {
        let conditions = conditions.iter().map(|condition| i32::from(*condition)).collect();
        Fallback { tool: tool.into(), conditions, priority, arguments: String::new() }
    }

    #[test]
    fn only_those_whose_condition_names_the_failure_and_lower_numbers_first() {
        use FallbackCondition as On;
        let fallbacks = vec![
            fallback("last", 9, &[On::Any]),
            fallback("slow", 1, &[On::Timeout, On::RateLimit]),
            fallback("key", 0, &[On::AuthFailure]),
            fallback("also", 1, &[On::Timeout]),
            fallback("broken", 0, &[On::InvalidData]),
        ];
        let settings = Settings { fallbacks, ..Settings::of(&Tool::default()) };
        let names = |code| -> Vec<&str> {
            in_order(&settings, &ToolError::new(code, "")).into_iter().map(|f| f.tool.as_str()).collect()
        };
        assert_eq!(names(ToolErrorCode::Timeout), ["slow", "also", "last"]);
        assert_eq!(names(ToolErrorCode::UpstreamRateLimited), ["slow", "last"]);
        assert_eq!(names(ToolErrorCode::RateLimited), ["slow", "last"]);
        assert_eq!(names(ToolErrorCode::UpstreamAuth), ["key", "last"]);
        assert_eq!(names(ToolErrorCode::InvalidResult), ["broken", "last"]);
        assert_eq!(names(ToolErrorCode::CircuitOpen), ["last"]);
        assert!(names(ToolErrorCode::OwnerDied).is_empty());
    }
}
