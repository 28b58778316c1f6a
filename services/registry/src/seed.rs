//! Registers the tools that come with toolcrib, through the same checks as everybody's.

use ::store::Database;
use serde::Deserialize;
use serde_json::Value;
use types::{Category, Effect, Sensitivity};

use crate::{
    Error,
    definition::{BUILTINS, Binding, Example, Proposal},
    register::{self, SettingsPlan},
    store, trail,
};

/// The definitions, one file each.
const SEEDS: [&str; BUILTINS.len()] = [
    include_str!("../seed/brave_web_search.json"),
    include_str!("../seed/google_web_search.json"),
    include_str!("../seed/python_sandbox.json"),
    include_str!("../seed/pandas_analyzer.json"),
    include_str!("../seed/file_operations.json"),
    include_str!("../seed/http_request.json"),
    include_str!("../seed/echo.json"),
    include_str!("../seed/ping_server.json"),
    include_str!("../seed/read_file.json"),
    include_str!("../seed/list_files.json"),
    include_str!("../seed/system_status.json"),
    include_str!("../seed/code_analysis.json"),
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Seed {
    name: String,
    title: String,
    description: String,
    category: String,
    capabilities: Vec<String>,
    effect: String,
    sensitivity: String,
    timeout_ms: i64,
    rate_limit_per_minute: i32,
    cost_micro_usd: i64,
    input_schema: Value,
    output_schema: Value,
    binding: Binding,
    #[serde(default)]
    examples: Vec<SeedExample>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SeedExample {
    description: String,
    arguments: Value,
}

/// Registers for a team each tool that it does not have yet, and gives their number. A definition that the
/// team was given once is not given again: what its operators made of the tool since stays.
pub async fn seed(database: &Database, team: &str) -> Result<usize, Error> {
    let (own, mut made) = (trail::own(team), 0);
    for text in SEEDS {
        let proposal = proposal(text)?;
        let definition = register::checked(proposal.clone()).await?;
        let content = definition.digests()?.content;
        if !store::content_exists(database.pool()?, team, &definition.name, &content).await? {
            let registered = register::register(database, &own, proposal, SettingsPlan::Fit).await?;
            made += usize::from(registered.created);
        }
    }
    Ok(made)
}

fn proposal(text: &str) -> Result<Proposal, Error> {
    let seed: Seed = serde_json::from_str(text)?;
    let unknown = |field: &str| {
        let field = format!("definition.{field}");
        move |error: types::UnknownWord| Error::invalid(field, error.to_string())
    };
    Ok(Proposal {
        category: Some(seed.category.to_lowercase().parse::<Category>().map_err(unknown("category"))?),
        effect: Some(seed.effect.to_lowercase().parse::<Effect>().map_err(unknown("effect"))?),
        sensitivity: Some(
            seed.sensitivity.to_lowercase().parse::<Sensitivity>().map_err(unknown("sensitivity"))?,
        ),
        name: seed.name,
        title: seed.title,
        description: seed.description,
        capabilities: seed.capabilities,
        input_schema: seed.input_schema.to_string(),
        output_schema: seed.output_schema.to_string(),
        binding: Some(seed.binding),
        timeout_ms: seed.timeout_ms,
        rate_limit_per_minute: seed.rate_limit_per_minute,
        cost_micro_usd: seed.cost_micro_usd,
        examples: seed.examples.into_iter().map(example).collect(),
        ..Proposal::default()
    })
}

fn example(seed: SeedExample) -> Example {
    Example { description: seed.description, arguments: seed.arguments.to_string(), result: String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every property of an object schema, at any depth, with its path.
    fn properties<'a>(path: &str, schema: &'a Value, found: &mut Vec<(String, &'a Value)>) {
        for (name, property) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            let path = format!("{path}/{name}");
            properties(&path, property, found);
            found.push((path, property));
        }
        if let Some(items) = schema.get("items") {
            properties(&format!("{path}[]"), items, found);
        }
    }

    #[tokio::test]
    async fn every_seed_passes_the_checks_and_explains_each_parameter() {
        let mut names = Vec::new();
        for text in SEEDS {
            let definition = register::checked(proposal(text).unwrap()).await.unwrap();
            assert_eq!(definition.provider, "toolcrib");
            assert!(!definition.capabilities.is_empty() && !definition.title.is_empty());
            let input: Value = serde_json::from_str(&definition.input_schema).unwrap();
            assert_eq!(input["additionalProperties"], false, "{}", definition.name);
            let mut found = Vec::new();
            properties("", &input, &mut found);
            assert!(!found.is_empty());
            for (path, property) in found {
                assert!(property["description"].is_string(), "{}{path} has no description", definition.name);
            }
            let validator = jsonschema::validator_for(&input).unwrap();
            for example in &definition.examples {
                let arguments: Value = serde_json::from_str(&example.arguments).unwrap();
                assert!(validator.is_valid(&arguments), "{}: {}", definition.name, example.arguments);
            }
            let output: Value = serde_json::from_str(&definition.output_schema).unwrap();
            let mut promised = Vec::new();
            properties("", &output, &mut promised);
            for (path, property) in promised {
                assert!(property["description"].is_string(), "{}: {path} of the result", definition.name);
            }
            assert!(matches!(definition.binding, Binding::Builtin(ref own) if own.name == definition.name));
            names.push(definition.name);
        }
        names.sort_unstable();
        let mut known = BUILTINS.map(str::to_owned);
        known.sort_unstable();
        assert_eq!(names, known);
    }
}
