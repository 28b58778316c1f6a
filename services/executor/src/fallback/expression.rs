//! What a CEL expression makes of a call's arguments. Never evaluates on a thread that serves others, never for
//! long, and never says what it saw: those values may be secrets.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use cel::{
    Context, Env, Value as CelValue,
    common::{types::CelNull, value::CowVal},
    context::VariableResolver,
    objects::Key,
};
use serde_json::Value;

/// Most items of one list, or entries of one map, that an expression is given.
const MAX_ITEMS: usize = 10_000;
/// How long an evaluation may take.
const MAX_TIME: Duration = Duration::from_millis(50);
/// How long its caller waits for a thread and for the end, which it comes to soon after its time.
const PATIENCE: Duration = Duration::from_secs(2);

/// What an expression makes of these variables: an object.
pub(super) async fn evaluate(
    expression: String,
    variables: Vec<(&'static str, Value)>,
) -> Result<Value, String> {
    if variables.iter().any(|(_, value)| is_long(value)) {
        return Err(format!(
            "its arguments expression is not evaluated: a list or map of this call has more than {MAX_ITEMS} items"
        ));
    }
    let evaluated = tokio::task::spawn_blocking(move || evaluated(&expression, &variables, MAX_TIME));
    match tokio::time::timeout(PATIENCE, evaluated).await {
        Ok(Ok(made)) => made,
        Ok(Err(_)) => Err("its arguments expression could not be evaluated".to_owned()),
        Err(_) => Err(too_slow(PATIENCE)),
    }
}

fn evaluated(expression: &str, variables: &[(&str, Value)], time: Duration) -> Result<Value, String> {
    let env = Arc::new(Env::stdlib());
    // Without what `cel` says: it repeats values.
    let program = env.compile(expression).map_err(|_| "its arguments expression is wrong".to_owned())?;
    let clock = Clock { end: Instant::now() + time, has_struck: AtomicBool::new(false) };
    let mut context = Context::with_env(env);
    for (name, value) in variables {
        context.add_variable_from_value(*name, cel_value(value));
    }
    context.set_variable_resolver(&clock);
    let made = program.execute(&context);
    if clock.has_struck.load(Ordering::Relaxed) {
        return Err(too_slow(time));
    }
    let made = made.map_err(|_| "its arguments cannot be made from those of this call".to_owned())?;
    let made = made.json().map_err(|_| "its arguments expression gives no JSON".to_owned())?;
    if made.is_object() { Ok(made) } else { Err("its arguments expression gives no object".to_owned()) }
}

fn too_slow(time: Duration) -> String {
    format!("its arguments expression was given up: it took longer than {} ms", time.as_millis())
}

/// Ends an evaluation: `cel` has no other way to. It is asked for each name before the variables are, and from the
/// end of the time on all of them are null. What names no variable takes no longer than the data is long.
struct Clock {
    end: Instant,
    has_struck: AtomicBool,
}

impl VariableResolver for Clock {
    fn resolve<'b>(&'b self, _: &str) -> Option<CowVal<'b, 'b>> {
        if Instant::now() < self.end {
            return None;
        }
        self.has_struck.store(true, Ordering::Relaxed);
        Some(CowVal::owned(CelNull))
    }
}

/// Whether a list or a map anywhere in a value has more items than an expression is given.
fn is_long(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.len() > MAX_ITEMS || items.iter().any(is_long),
        Value::Object(fields) => fields.len() > MAX_ITEMS || fields.values().any(is_long),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
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
    use futures_util::FutureExt;
    use serde_json::json;

    use super::*;

    #[test]
    fn an_expression_maps_the_arguments_and_must_give_an_object() {
        let arguments = json!({"query": "rust", "limit": 3, "deep": {"a": [1, 2.5, null]}});
        let with = |expression: &str| {
            evaluated(expression, &[("arguments", arguments.clone())], Duration::from_mins(1))
        };
        assert_eq!(
            with(r#"{"q": arguments.query + "!", "n": arguments.limit * 2, "d": arguments.deep}"#).unwrap(),
            json!({"q": "rust!", "n": 6, "d": {"a": [1, 2.5, null]}})
        );
        assert!(with("arguments.limit").unwrap_err().contains("no object"));
        assert!(with("arguments.nothing").is_err());
        assert!(with("{").unwrap_err().contains("wrong"));
    }

    #[tokio::test]
    async fn long_lists_are_not_evaluated_wherever_they_stand() {
        let told = async |items: usize| {
            let arguments = json!({"deep": [{"items": vec![1; items]}]});
            evaluate("{'n': size(arguments.deep)}".to_owned(), vec![("arguments", arguments)]).await
        };
        assert_eq!(told(MAX_ITEMS).await, Ok(json!({"n": 1})));
        assert!(told(MAX_ITEMS + 1).await.unwrap_err().contains("more than 10000 items"));
        let map: serde_json::Map<_, _> = (0..=MAX_ITEMS).map(|n| (n.to_string(), json!(n))).collect();
        let told = evaluate("{'n': 1}".to_owned(), vec![("arguments", json!(map))]).await;
        assert!(told.unwrap_err().contains("more than 10000 items"));
    }

    /// On the only thread of this runtime; left alone it takes some minutes.
    #[tokio::test]
    async fn an_evaluation_without_an_end_holds_up_nothing_and_is_given_up() {
        let (items, seen): (Vec<_>, Vec<_>) = (0..10_000).map(|n| (json!(n), json!(-1 - n))).unzip();
        let arguments = json!({"items": items, "seen": seen});
        let expression = "{'new': arguments.items.filter(x, !(x in arguments.seen))}".to_owned();
        let mut evaluation = std::pin::pin!(evaluate(expression, vec![("arguments", arguments)]));
        assert!((&mut evaluation).now_or_never().is_none(), "it has a thread of its own");
        let told = evaluation.await;
        let told = told.unwrap_err();
        assert!(told.contains("longer than 50 ms"), "{told}");
    }
}
