//! Another tool in place of one that failed. Never runs one where the first may have taken effect and must not
//! take effect twice, and never one that the caller may not call.

use std::{collections::HashMap, sync::Arc};

use cel::{Context, Env, Value as CelValue, objects::Key};
use proto::registry::v1::{Fallback, FallbackCondition, Tool};
use serde_json::{Value, json};

use crate::{
    Error, Executor,
    attempt::{Candidate, Tried, with_retries},
    authorize::{Reserved, question},
    invoke::digest,
    outcome::{AttemptKind, Reached, ToolError, ToolErrorCode},
    perform::{AttemptLog, Spent},
    resolve::definition,
    run::Run,
    settings::Settings,
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
    let (tool, arguments, _charge) = match prepared {
        Ok((tool, arguments, reserved)) => {
            (tool, arguments, Charge { reserved: Some(reserved), log, before })
        }
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

/// What a fallback holds of the caller's limits. Settled when this is dropped: when its run is cancelled or panics
/// too.
struct Charge<'a> {
    reserved: Option<Reserved>,
    log: &'a AttemptLog,
    before: Spent,
}

impl Drop for Charge<'_> {
    fn drop(&mut self) {
        let spent = self.log.spent();
        if let Some(reserved) = self.reserved.take() {
            let cost = spent.fallbacks_micro_usd - self.before.fallbacks_micro_usd;
            reserved.settle(spent.calls > self.before.calls, cost);
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
            Error::Denied { .. } => ToolErrorCode::Denied,
            _ => ToolErrorCode::FallbackUnusable,
        };
        (tool, ToolError::new(code, ::rpc::ServiceError::public_message(error)))
    };
    let tool =
        executor.resolver.resolve(&run.caller, &fallback.tool).await.map_err(|e| unusable(named(), &e))?;
    let with = |error: Error| unusable(Arc::clone(&tool), &error);
    let arguments = arguments(run, fallback, error).map_err(Error::Internal);
    let arguments = arguments.map_err(|error| {
        (Arc::clone(&tool), ToolError::new(ToolErrorCode::FallbackUnusable, error.to_string()))
    })?;
    let definition = definition(&tool).map_err(with)?;
    let stands_in = Candidate::fallback(&tool, &arguments);
    if stands_in.has_side_effect() && !Candidate::asked_for(run).has_side_effect() {
        // What is recorded as read-only may be run again after a crash.
        let message = "it has side effects, and the tool it stands in for has none";
        return Err((Arc::clone(&tool), ToolError::new(ToolErrorCode::FallbackUnusable, message)));
    }
    let violations = executor.schemas.check(&definition.input_schema_json, &arguments);
    if !violations.is_empty() {
        let message = "the arguments made for it break its input schema";
        let failed = ToolError::new(ToolErrorCode::FallbackUnusable, message);
        return Err((Arc::clone(&tool), ToolError { violations, ..failed }));
    }
    let question = digest(&arguments).and_then(|digest| question(&tool, digest, types::new_id()));
    let reserved = executor.authorizer.reserve(&executor.runs, &run.caller, question.map_err(with)?).await;
    let reserved = reserved.map_err(with)?;
    Ok((tool, arguments, reserved))
}

/// A tool of which only the name is known, for the record.
fn unknown(name: &str) -> Tool {
    let definition = proto::registry::v1::ToolDefinition { name: name.to_owned(), ..Default::default() };
    Tool { definition: Some(definition), ..Tool::default() }
}

/// The fallback's arguments: the same, or what its expression makes of them. The registry has bounded the
/// expression's nesting, so that it ends soon.
fn arguments(run: &Run, fallback: &Fallback, error: &ToolError) -> Result<Value, String> {
    if fallback.arguments.is_empty() {
        return Ok(run.arguments.clone());
    }
    let error = json!({ "code": error.code.as_str(), "message": error.message });
    let tool = json!(run.execution.tool_name);
    evaluate(&fallback.arguments, &[("arguments", &run.arguments), ("error", &error), ("tool", &tool)])
}

/// What a CEL expression makes of these variables: an object.
fn evaluate(expression: &str, variables: &[(&str, &Value)]) -> Result<Value, String> {
    let env = Arc::new(Env::stdlib());
    // Without what `cel` says: it repeats values, and those may be secrets.
    let program = env.compile(expression).map_err(|_| "its arguments expression is wrong".to_owned())?;
    let mut context = Context::with_env(env);
    for (name, value) in variables {
        context.add_variable_from_value(*name, cel_value(value));
    }
    let made = program
        .execute(&context)
        .map_err(|_| "its arguments cannot be made from those of this call".to_owned())?;
    let made = made.json().map_err(|_| "its arguments expression gives no JSON".to_owned())?;
    if made.is_object() { Ok(made) } else { Err("its arguments expression gives no object".to_owned()) }
}

/// JSON as CEL sees it: whole numbers are `int`, as they are in a literal.
fn cel_value(value: &Value) -> CelValue {
    match value {
        Value::Null => CelValue::Null,
        Value::Bool(flag) => CelValue::Bool(*flag),
        Value::String(text) => CelValue::String(Arc::new(text.clone())),
        Value::Number(number) => number
            .as_i64()
            .map(CelValue::Int)
            .or_else(|| number.as_u64().map(CelValue::UInt))
            .or_else(|| number.as_f64().map(CelValue::Float))
            .unwrap_or(CelValue::Null),
        Value::Array(items) => CelValue::List(Arc::new(items.iter().map(cel_value).collect())),
        Value::Object(fields) => {
            let entry = |(name, value): (&String, &Value)| (Key::from(name.clone()), cel_value(value));
            CelValue::from(fields.iter().map(entry).collect::<HashMap<Key, CelValue>>())
        }
    }
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

    #[test]
    fn an_expression_maps_the_arguments_and_must_give_an_object() {
        let arguments = json!({"query": "rust", "limit": 3, "deep": {"a": [1, 2.5, null]}});
        let with = |expression: &str| evaluate(expression, &[("arguments", &arguments)]);
        assert_eq!(
            with(r#"{"q": arguments.query + "!", "n": arguments.limit * 2, "d": arguments.deep}"#).unwrap(),
            json!({"q": "rust!", "n": 6, "d": {"a": [1, 2.5, null]}})
        );
        assert!(with("arguments.limit").unwrap_err().contains("no object"));
        assert!(with("arguments.nothing").is_err());
        assert!(with("{").unwrap_err().contains("wrong"));
    }
}
