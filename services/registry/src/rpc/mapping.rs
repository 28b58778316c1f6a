//! The one mapping between the contract and the domain. Decides nothing.

use ::rpc::FieldViolation;
use chrono::{DateTime, Utc};
use prost_types::{ListValue, Struct, value::Kind};
use proto::{
    registry::v1::{
        self as wire, GetToolRequest, ListToolsRequest, RegisterServerRequest, RegisterToolRequest,
        WatchToolsResponse, get_tool_request::Key as WireKey, watch_tools_response,
    },
    types::v1 as words,
};
use serde_json::{Map, Number, Value};
use types::{Caller, Role};

use super::bindings;
use crate::{
    Error,
    definition::{Definition, Example, Proposal},
    get::Key,
    health::Answers,
    servers::NewServer,
    store::{Defaults, Filter, ServerRow, ServerState, ToolRow, ToolStatus},
    watch::{Event, Step},
};

/// How much of a binding a caller is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum View {
    /// Everything.
    Full,
    /// Without the values of headers and environment: they should hold no secret, but may.
    Veiled,
}

impl View {
    /// Operators and the suite's own services see everything.
    pub(super) fn of(caller: &Caller) -> Self {
        if caller.is_service() || caller.role >= Role::Operator { Self::Full } else { Self::Veiled }
    }

    pub(super) fn tool(self, row: &ToolRow) -> Result<wire::Tool, Error> {
        Ok(wire::Tool {
            id: row.id.to_string(),
            definition: Some(self.definition(row.definition()?)),
            digest: row.digest.clone(),
            status: wire_status(&row.status).into(),
            create_time: Some(timestamp(row.create_time)),
            revision: row.revision,
            team_id: row.team_id.clone(),
            settings: Some(super::settings::message(row.settings())),
            etag: row.etag(),
            pending: row.pending.as_ref().map(|pending| wire::PendingDefinition {
                id: pending.id.to_string(),
                version: pending.version.clone(),
                digest: pending.digest.clone(),
                create_time: Some(timestamp(pending.create_time)),
            }),
            server: row.server_name.clone().unwrap_or_default(),
            server_state: row
                .server_state
                .clone()
                .map_or(wire::ServerState::Unspecified, |word| server_state(word.into()))
                .into(),
        })
    }

    pub(super) fn tools(self, rows: &[ToolRow]) -> Result<Vec<wire::Tool>, Error> {
        rows.iter().map(|row| self.tool(row)).collect()
    }

    pub(super) fn event(self, event: Event) -> Result<WatchToolsResponse, Error> {
        let step = match event.step {
            Step::Upserted(row) => watch_tools_response::Event::Upserted(self.tool(&row)?),
            Step::SnapshotEnd(tool_count) => {
                watch_tools_response::Event::SnapshotEnd(wire::SnapshotEnd { tool_count })
            }
            Step::Heartbeat => watch_tools_response::Event::Heartbeat(wire::Heartbeat {}),
        };
        Ok(WatchToolsResponse { event: Some(step), revision: event.revision })
    }

    fn definition(self, definition: Definition) -> wire::ToolDefinition {
        wire::ToolDefinition {
            name: definition.name,
            version: definition.version,
            title: definition.title,
            description: definition.description,
            category: words::Category::from(definition.category).into(),
            capabilities: definition.capabilities,
            effect: words::Effect::from(definition.effect).into(),
            sensitivity: words::Sensitivity::from(definition.sensitivity).into(),
            input_schema_json: definition.input_schema,
            output_schema_json: definition.output_schema,
            binding: Some(self.binding(definition.binding)),
            provider: definition.provider,
            timeout_ms: definition.timeout_ms,
            rate_limit_per_minute: definition.rate_limit_per_minute,
            cost_micro_usd: definition.cost_micro_usd,
            labels: definition.labels.into_iter().collect(),
            examples: definition.examples.into_iter().map(wire_example).collect(),
        }
    }
}

/// A stored status; unspecified where a newer version wrote it.
pub(super) fn wire_status(word: &str) -> wire::ToolStatus {
    word.parse().map_or(wire::ToolStatus::Unspecified, |status| match status {
        ToolStatus::Active => wire::ToolStatus::Active,
        ToolStatus::Deprecated => wire::ToolStatus::Deprecated,
        ToolStatus::Disabled => wire::ToolStatus::Disabled,
        ToolStatus::Quarantined => wire::ToolStatus::Quarantined,
    })
}

/// The proposal of a request. Words that are not known are refused at once: a tool must not become less
/// guarded because this version does not know the word for it.
pub(super) fn proposal(request: RegisterToolRequest) -> Result<Proposal, Error> {
    let definition = request.definition.unwrap_or_default();
    let mut found = Vec::new();
    let mut add = |field: &str, description: &str| {
        found.push(FieldViolation { field: field.into(), description: description.into() });
    };
    let category = words::Category::try_from(definition.category);
    let effect = words::Effect::try_from(definition.effect);
    let sensitivity = words::Sensitivity::try_from(definition.sensitivity);
    for (field, is_known) in [
        ("definition.category", category.is_ok()),
        ("definition.effect", effect.is_ok()),
        ("definition.sensitivity", sensitivity.is_ok()),
    ] {
        if !is_known {
            add(field, "is a number that the contract does not define");
        }
    }
    let mut schema = |text: String, person: Option<Struct>, field: &str| match person {
        Some(_) if !text.is_empty() => {
            add(field, "cannot be given together with its JSON text");
            text
        }
        Some(schema) => object(schema).to_string(),
        None => text,
    };
    let input_schema = schema(definition.input_schema_json, request.input_schema, "input_schema");
    let output_schema = schema(definition.output_schema_json, request.output_schema, "output_schema");
    let binding = definition.binding.map_or(Ok(None), bindings::binding).unwrap_or_else(|field| {
        add(&format!("definition.binding.http.{field}"), "holds a word that is not given or not known");
        None
    });
    if !found.is_empty() {
        return Err(Error::Invalid(found));
    }
    Ok(Proposal {
        name: definition.name,
        version: definition.version,
        title: definition.title,
        description: definition.description,
        category: category.ok().and_then(Option::from),
        capabilities: definition.capabilities,
        effect: effect.ok().and_then(Option::from),
        sensitivity: sensitivity.ok().and_then(Option::from),
        input_schema,
        output_schema,
        binding,
        provider: definition.provider,
        timeout_ms: definition.timeout_ms,
        rate_limit_per_minute: definition.rate_limit_per_minute,
        cost_micro_usd: definition.cost_micro_usd,
        labels: definition.labels.into_iter().collect(),
        examples: definition.examples.into_iter().map(example).collect(),
    })
}

fn example(example: wire::ToolExample) -> Example {
    let wire::ToolExample { description, arguments_json, result_json } = example;
    Example { description, arguments: arguments_json, result: result_json }
}

fn wire_example(example: Example) -> wire::ToolExample {
    let Example { description, arguments, result } = example;
    wire::ToolExample { description, arguments_json: arguments, result_json: result }
}

pub(super) fn key(request: GetToolRequest) -> Result<Key, Error> {
    let version = (!request.version.is_empty()).then_some(request.version);
    match (request.key, version) {
        (Some(WireKey::Id(id)), None) => {
            id.parse().map(Key::Id).map_err(|_| Error::invalid("id", "is not a UUID"))
        }
        (Some(WireKey::Id(_)), Some(_)) => {
            Err(Error::invalid("version", "goes with a name only; an id names one version"))
        }
        (Some(WireKey::Name(name)), version) => Ok(Key::Name(name, version)),
        (None, _) => Err(Error::invalid("key", "is not given: an id or a name")),
    }
}

pub(super) fn filter(request: &ListToolsRequest) -> Result<Filter, Error> {
    let text = |value: &String| (!value.is_empty()).then(|| value.clone());
    let category = words::Category::try_from(request.category)
        .map_err(|_| Error::invalid("category", "is a number that the contract does not define"))?;
    let status = wire::ToolStatus::try_from(request.status)
        .map_err(|_| Error::invalid("status", "is a number that the contract does not define"))?;
    Ok(Filter {
        category: category.into(),
        capability: text(&request.capability),
        status: match status {
            wire::ToolStatus::Unspecified => None,
            wire::ToolStatus::Active => Some(ToolStatus::Active),
            wire::ToolStatus::Deprecated => Some(ToolStatus::Deprecated),
            wire::ToolStatus::Disabled => Some(ToolStatus::Disabled),
            wire::ToolStatus::Quarantined => Some(ToolStatus::Quarantined),
        },
        provider: text(&request.provider),
        pending: request.pending,
    })
}

pub(super) fn status(status: wire::ToolStatus) -> Result<ToolStatus, Error> {
    match status {
        wire::ToolStatus::Active => Ok(ToolStatus::Active),
        wire::ToolStatus::Deprecated => Ok(ToolStatus::Deprecated),
        wire::ToolStatus::Disabled => Ok(ToolStatus::Disabled),
        wire::ToolStatus::Unspecified | wire::ToolStatus::Quarantined => {
            Err(Error::invalid("status", "must be ACTIVE, DEPRECATED or DISABLED"))
        }
    }
}

pub(super) fn new_server(request: RegisterServerRequest) -> Result<NewServer, Error> {
    let defaults = request.defaults.unwrap_or_default();
    let unknown = |field: &str| Error::invalid(field, "is a number that the contract does not define");
    let category = words::Category::try_from(defaults.category).map_err(|_| unknown("defaults.category"))?;
    let sensitivity =
        words::Sensitivity::try_from(defaults.sensitivity).map_err(|_| unknown("defaults.sensitivity"))?;
    let (transport, credentials) = request.transport.and_then(bindings::transport).unzip();
    let credentials = credentials.unwrap_or_default();
    Ok(NewServer {
        name: request.name,
        transport,
        credentials,
        verify: request.verify,
        defaults: Defaults {
            category: category.into(),
            capabilities: defaults.capabilities,
            sensitivity: sensitivity.into(),
            timeout_ms: defaults.timeout_ms,
            trust_annotations: defaults.trust_annotations,
        },
    })
}

pub(super) fn server_state(state: ServerState) -> wire::ServerState {
    match state {
        ServerState::Pending => wire::ServerState::Pending,
        ServerState::Healthy => wire::ServerState::Healthy,
        ServerState::Degraded => wire::ServerState::Degraded,
        ServerState::Unavailable => wire::ServerState::Unavailable,
    }
}

pub(super) fn server(row: ServerRow) -> wire::Server {
    let answers = Answers::of(&row);
    let defaults = row.defaults.0;
    wire::Server {
        name: row.name,
        transport: Some(View::Full.transport(row.transport.0, row.credentials.0)),
        state: server_state(row.state).into(),
        last_error: row.last_error,
        tool_count: i32::try_from(row.tool_count).unwrap_or(i32::MAX),
        last_seen_time: row.last_seen_time.map(timestamp),
        discovery_ms: row.discovery_ms,
        server_version: row.server_version,
        protocol_version: row.protocol_version,
        defaults: Some(wire::ServerDefaults {
            category: defaults.category.map(words::Category::from).unwrap_or_default().into(),
            capabilities: defaults.capabilities,
            sensitivity: defaults.sensitivity.map(words::Sensitivity::from).unwrap_or_default().into(),
            timeout_ms: defaults.timeout_ms,
            trust_annotations: defaults.trust_annotations,
        }),
        rejected_tools: row.rejected_tools,
        health: answers.health(),
        latency_ms: answers.latency_ms(),
        last_probe_time: row.last_probe_time.map(timestamp),
        pending_count: i32::try_from(row.pending_count).unwrap_or(i32::MAX),
        next_discovery_time: Some(timestamp(row.next_time)),
    }
}

/// A Struct as JSON. Its numbers are doubles; whole ones become integers again, as they were meant.
fn object(schema: Struct) -> Value {
    let members: Map<String, Value> =
        schema.fields.into_iter().map(|(name, member)| (name, value(member))).collect();
    Value::Object(members)
}

fn value(value: prost_types::Value) -> Value {
    match value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(flag)) => Value::Bool(flag),
        Some(Kind::NumberValue(number)) => self::number(number),
        Some(Kind::StringValue(text)) => Value::String(text),
        Some(Kind::ListValue(ListValue { values })) => values.into_iter().map(self::value).collect(),
        Some(Kind::StructValue(inner)) => object(inner),
    }
}

#[allow(clippy::cast_possible_truncation, reason = "whole numbers within 2^53 are exact")]
fn number(number: f64) -> Value {
    const LARGEST: f64 = 9_007_199_254_740_992.0;
    if number.fract() == 0.0 && number.abs() <= LARGEST {
        Value::from(number as i64)
    } else {
        Number::from_f64(number).map_or(Value::Null, Value::Number)
    }
}

pub(super) fn timestamp(at: DateTime<Utc>) -> prost_types::Timestamp {
    let nanos = i32::try_from(at.timestamp_subsec_nanos()).unwrap_or(0);
    prost_types::Timestamp { seconds: at.timestamp(), nanos }
}
