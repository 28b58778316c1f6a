//! Every kind of difference is told, with what it means for callers, and none is left out.

mod bounds;
mod complete;
mod definitions;
mod schemas;

use serde_json::json;
use types::{Category, Effect, Sensitivity};

use super::*;
use crate::definition::{Builtin, CredentialUse, Example, Http, Mcp, tests::definition as plain};

const B: Kind = Kind::Breaking;
const A: Kind = Kind::Addition;
const P: Kind = Kind::Patch;

fn with(input: &Value, output: Option<&Value>) -> Definition {
    let output_schema = output.map(Value::to_string).unwrap_or_default();
    Definition { input_schema: input.to_string(), output_schema, ..plain() }
}

fn object(property: &Value) -> Value {
    json!({"type": "object", "properties": {"a": property}})
}

/// Kind of the change, and where it is told.
fn told(before: &Definition, after: &Definition) -> (Option<Kind>, Vec<String>) {
    let changes = compare(before, after).unwrap();
    (greatest(&changes), changes.into_iter().map(|change| change.path).collect())
}

/// Of a property of the arguments, and of one of the result.
fn kinds(before: &Value, after: &Value) -> (Option<Kind>, Option<Kind>) {
    let any = json!({"type": "object"});
    let (old, new) = (object(before), object(after));
    let input = told(&with(&old, None), &with(&new, None));
    let output = told(&with(&any, Some(&old)), &with(&any, Some(&new)));
    assert!(input.1.iter().all(|path| path.starts_with("/input_schema")), "{input:?}");
    assert!(output.1.iter().all(|path| path.starts_with("/output_schema")), "{output:?}");
    (input.0, output.0)
}
