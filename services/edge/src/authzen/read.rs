//! Requests of AuthZEN, read. Pure. What the specification leaves open is passed over; what it names must be as it
//! says. Arguments stay the text they are: no digit is lost.

use chrono::{DateTime, NaiveDateTime, Utc};
use proto::permissions::v1::ExplainRequest;
use serde::Deserialize;
use serde_json::value::RawValue;

/// Most evaluations of one request.
pub(super) const MAX_EVALUATIONS: usize = 100;
/// Most bytes of arguments that evaluations share, each of which has its own of them when it is asked.
const MAX_SHARED: usize = 4 * 1024 * 1024;
/// Most bytes of a type, an id, an action's name and a user: evaluations share them too, and answers quote them.
const MAX_WORD: usize = 512;
/// Most characters of what a reader of JSON says of a fault: it quotes what it has read.
const MAX_FAULT: usize = 300;

/// Why something cannot be read, for whoever wrote it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Unread(pub String);

/// What a request asks.
#[derive(Debug)]
pub(super) enum Asked {
    One(Result<Question, Unread>),
    Many(Vec<Result<Question, Unread>>, Semantic),
}

/// One question.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Question {
    /// May an agent call a tool?
    Call(Box<ExplainRequest>),
    /// A subject, action or resource of a kind that nothing here is; in words.
    Unknown(String),
}

/// How far the evaluations go (section 7.1.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Semantic {
    #[default]
    ExecuteAll,
    DenyOnFirstDeny,
    PermitOnFirstPermit,
}

#[derive(Debug, Default, Deserialize)]
struct Options {
    evaluations_semantic: Option<Semantic>,
}

/// Section 7.1: `evaluations` with defaults beside it; section 6.1 without.
#[derive(Debug, Deserialize)]
struct Payload<'a> {
    #[serde(borrow)]
    evaluations: Option<Vec<&'a RawValue>>,
    options: Option<Options>,
}

/// Four of the entities of section 5; of evaluations, all may be missing.
#[derive(Debug, Default, Deserialize)]
struct Tuple {
    subject: Option<Entity>,
    action: Option<Action>,
    resource: Option<Entity>,
    context: Option<Context>,
}

/// A subject or a resource.
#[derive(Debug, Clone, Default, Deserialize)]
struct Entity {
    #[serde(rename = "type")]
    kind: Option<String>,
    id: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct Action {
    name: Option<String>,
}

/// What we read of the context; the rest of it is not for us.
#[derive(Debug, Clone, Default, Deserialize)]
struct Context {
    arguments: Option<Box<RawValue>>,
    user: Option<String>,
    time: Option<String>,
}

/// Reads a request. Errors are of the whole of it.
pub(super) fn read(body: &[u8], is_many: bool) -> Result<Asked, Unread> {
    let text = std::str::from_utf8(body).map_err(|_| Unread("the request is not UTF-8".to_owned()))?;
    let default: Tuple = parse(text)?;
    short(&default)?;
    if !is_many {
        return Ok(Asked::One(question(Tuple::default(), &default)));
    }
    let payload: Payload<'_> = parse(text)?;
    let evaluations = payload.evaluations.unwrap_or_default();
    if evaluations.is_empty() {
        return Ok(Asked::One(question(Tuple::default(), &default)));
    }
    if evaluations.len() > MAX_EVALUATIONS {
        let many = evaluations.len();
        return Err(Unread(format!("evaluations has {many}; at most {MAX_EVALUATIONS} are taken")));
    }
    let shared = default.context.as_ref().and_then(|context| context.arguments.as_deref());
    let shared = shared.map_or(0, |arguments| arguments.get().len());
    if shared.saturating_mul(evaluations.len()) > MAX_SHARED {
        return Err(Unread(format!(
            "context.arguments has {shared} bytes, too many for {} evaluations; give each its own",
            evaluations.len()
        )));
    }
    let read = |evaluation: &RawValue| question(parse(evaluation.get())?, &default);
    let semantic = payload.options.and_then(|options| options.evaluations_semantic).unwrap_or_default();
    Ok(Asked::Many(evaluations.into_iter().map(read).collect(), semantic))
}

fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Unread> {
    if !text.trim_start().starts_with('{') {
        return Err(Unread("a JSON object is expected".to_owned()));
    }
    let unread = |error: serde_json::Error| {
        let fault: String = error.to_string().chars().take(MAX_FAULT).collect();
        Unread(format!("the JSON is not as it should be: {fault}"))
    };
    serde_json::from_str(text).map_err(unread)
}

/// Refuses words that no name here is as long as.
fn short(tuple: &Tuple) -> Result<(), Unread> {
    let (subject, resource) = (tuple.subject.as_ref(), tuple.resource.as_ref());
    let words = [
        ("subject.type", subject.and_then(|subject| subject.kind.as_ref())),
        ("subject.id", subject.and_then(|subject| subject.id.as_ref())),
        ("action.name", tuple.action.as_ref().and_then(|action| action.name.as_ref())),
        ("resource.type", resource.and_then(|resource| resource.kind.as_ref())),
        ("resource.id", resource.and_then(|resource| resource.id.as_ref())),
        ("context.user", tuple.context.as_ref().and_then(|context| context.user.as_ref())),
    ];
    let long =
        words.into_iter().find_map(|(field, word)| Some((field, word?.len())).filter(|it| it.1 > MAX_WORD));
    long.map_or(Ok(()), |(field, length)| {
        Err(Unread(format!("{field} has {length} bytes; at most {MAX_WORD} are taken")))
    })
}

/// One question, with what it does not say taken from the defaults: entity by entity, and of an entity what must not
/// be missing.
fn question(own: Tuple, default: &Tuple) -> Result<Question, Unread> {
    short(&own)?;
    let (subject, subject_id) = entity("subject", own.subject, default.subject.as_ref())?;
    let action = own.action.and_then(|action| action.name);
    let action = action.or_else(|| default.action.as_ref()?.name.clone());
    let action = action.ok_or_else(|| missing("action.name"))?;
    let (resource, resource_id) = entity("resource", own.resource, default.resource.as_ref())?;
    let context = own.context.or_else(|| default.context.clone()).unwrap_or_default();
    let arguments_json = arguments(context.arguments.as_deref())?;
    let time = context.time.as_deref().map(time).transpose()?;
    let unknown = |what: &str, word: &str, known: &str| {
        Ok(Question::Unknown(format!("nothing here has the {what} {word:?}; there is {known:?}")))
    };
    if subject != "agent" {
        return unknown("subject type", &subject, "agent");
    }
    if action != "call" {
        return unknown("action", &action, "call");
    }
    if resource != "tool" {
        return unknown("resource type", &resource, "tool");
    }
    if subject_id.is_empty() {
        return Err(missing("subject.id"));
    }
    Ok(Question::Call(Box::new(ExplainRequest {
        agent_id: subject_id,
        tool_name: resource_id,
        arguments_json,
        user: context.user.unwrap_or_default(),
        time: time.map(|at| prost_types::Timestamp { seconds: at.timestamp(), nanos: 0 }),
    })))
}

fn entity(name: &str, own: Option<Entity>, default: Option<&Entity>) -> Result<(String, String), Unread> {
    let own = own.unwrap_or_default();
    let kind = own.kind.or_else(|| default?.kind.clone());
    let id = own.id.or_else(|| default?.id.clone());
    let kind = kind.ok_or_else(|| missing(&format!("{name}.type")))?;
    Ok((kind, id.ok_or_else(|| missing(&format!("{name}.id")))?))
}

fn missing(field: &str) -> Unread {
    Unread(format!("{field} is missing"))
}

fn arguments(value: Option<&RawValue>) -> Result<String, Unread> {
    match value.map(RawValue::get) {
        None => Ok(String::new()),
        Some(text) if text.starts_with('{') => Ok(text.to_owned()),
        Some(_) => Err(Unread("context.arguments is not an object".to_owned())),
    }
}

/// RFC 3339; also without seconds, as the specification itself writes it.
fn time(text: &str) -> Result<DateTime<Utc>, Unread> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(time.to_utc());
    }
    let short = DateTime::parse_from_str(text, "%Y-%m-%dT%H:%M%:z").map(|time| time.to_utc());
    let short =
        short.or_else(|_| NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%MZ").map(|time| time.and_utc()));
    short.map_err(|_| {
        Unread("context.time is not a time as RFC 3339 has it, such as 2026-11-23T09:00:00Z".to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(body: &str) -> Result<Question, Unread> {
        match read(body.as_bytes(), false)? {
            Asked::One(question) => question,
            Asked::Many(..) => panic!("one was asked"),
        }
    }

    fn call(body: &str) -> ExplainRequest {
        match one(body) {
            Ok(Question::Call(request)) => *request,
            other => panic!("{other:?}"),
        }
    }

    const RIGHT: &str =
        r#""subject":{"type":"agent","id":"a"},"action":{"name":"call"},"resource":{"type":"tool","id":"t"}"#;

    #[test]
    fn arguments_stay_the_text_they_are() {
        let request = call(&format!(
            r#"{{{RIGHT},"context":{{"arguments":{{"n": 9007199254740993, "x": 1.0}},"user":"u","ip":"::1"}}}}"#
        ));
        assert_eq!(
            (request.agent_id.as_str(), request.tool_name.as_str(), request.user.as_str()),
            ("a", "t", "u")
        );
        assert_eq!(request.arguments_json, r#"{"n": 9007199254740993, "x": 1.0}"#);
        assert_eq!(request.time, None);
    }

    #[test]
    fn times_are_read_as_the_specification_writes_them() {
        for (text, expected) in [
            ("1985-10-26T01:22-07:00", "1985-10-26T08:22:00+00:00"),
            ("2025-06-27T18:03:00Z", "2025-06-27T18:03:00+00:00"),
            ("2025-06-27T18:03Z", "2025-06-27T18:03:00+00:00"),
        ] {
            assert_eq!(time(text).unwrap().to_rfc3339(), expected);
        }
        for wrong in ["", "now", "2025-06-27", "18:03", "2025-06-27T18:03"] {
            assert!(time(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_kind_that_nothing_here_has_is_no_fault_of_the_request() {
        for (from, to) in [("agent", "user"), ("call", "read"), ("tool", "record")] {
            let asked = one(&format!("{{{}}}", RIGHT.replace(from, to)));
            assert!(matches!(&asked, Ok(Question::Unknown(_))), "{asked:?}");
        }
    }

    #[test]
    fn long_words_are_refused_by_their_field_and_quoted_nowhere() {
        let (long, most) = ("x".repeat(513), "x".repeat(512));
        for (field, right) in [
            ("subject.type", "agent"),
            ("subject.id", "a"),
            ("action.name", "call"),
            ("resource.type", "tool"),
            ("resource.id", "t"),
        ] {
            let with = |word: &str| RIGHT.replace(&format!("{right:?}"), &format!("{word:?}"));
            let expected = Unread(format!("{field} has 513 bytes; at most 512 are taken"));
            assert_eq!(one(&format!("{{{}}}", with(&long))), Err(expected.clone()));
            assert!(one(&format!("{{{}}}", with(&most))).is_ok());
            let many = format!(r#"{{{RIGHT},"evaluations":[{{}},{{{}}}]}}"#, with(&long));
            let Ok(Asked::Many(questions, _)) = read(many.as_bytes(), true) else { panic!() };
            assert!(questions[0].is_ok());
            assert_eq!(questions[1], Err(expected));
        }
        let user = one(&format!(r#"{{{RIGHT},"context":{{"user":{long:?}}}}}"#));
        assert!(matches!(user, Err(Unread(why)) if why.starts_with("context.user ")));
        let shared = format!(r#"{{{RIGHT},"context":{{"user":{long:?}}},"evaluations":[{{}}]}}"#);
        assert!(read(shared.as_bytes(), true).is_err());
        let wrong = format!(
            r#"{{"options":{{"evaluations_semantic":"{}"}},"evaluations":[{{}}]}}"#,
            "x".repeat(9_999)
        );
        assert!(matches!(read(wrong.as_bytes(), true), Err(Unread(why)) if why.len() < 400));
    }

    #[test]
    fn an_evaluation_takes_what_it_lacks_from_the_defaults() {
        let body = r#"{"subject":{"type":"agent","id":"a"},"action":{"name":"call"},"resource":{"type":"tool"},
            "context":{"user":"u"},"options":{"evaluations_semantic":"permit_on_first_permit","other":1},
            "evaluations":[{"resource":{"id":"x"}},{"resource":{"type":"tool","id":"y"},"context":{}},{},[]]}"#;
        let Ok(Asked::Many(questions, semantic)) = read(body.as_bytes(), true) else { panic!() };
        assert_eq!(semantic, Semantic::PermitOnFirstPermit);
        let told: Vec<_> = questions
            .iter()
            .map(|question| match question {
                Ok(Question::Call(request)) => format!("{} {}", request.tool_name, request.user),
                Ok(Question::Unknown(what)) => what.clone(),
                Err(Unread(why)) => why.clone(),
            })
            .collect();
        assert_eq!(told, ["x u", "y ", "resource.id is missing", "a JSON object is expected"]);
    }
}
