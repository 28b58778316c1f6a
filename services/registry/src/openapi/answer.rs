//! What an operation answers: the schema of its result, and how its next page is asked for. No I/O.

use serde_json::{Value, json};

use super::{
    document::{Document, Node},
    media,
    parameters::Parameter,
    schema::{Direction, Part, Schemas, schema_of},
};
use crate::definition::{HttpLocation, NextPage, Pagination};

/// Our own extension that says how the next page is asked for.
const EXTENSION: &str = "x-toolcrib-pagination";
/// Query parameters that a Link header turns to the next page, the surest first.
const LINKED: [&str; 3] = ["page", "cursor", "after"];
/// Query parameters, and the member of the answer that is their next value.
const CURSORS: [(&str, &str); 6] = [
    ("pageToken", "nextPageToken"),
    ("page_token", "next_page_token"),
    ("cursor", "next_cursor"),
    ("cursor", "nextCursor"),
    ("next_token", "next_token"),
    ("nextToken", "nextToken"),
];

/// What an operation answers when it succeeds.
#[derive(Debug, Default)]
pub(super) struct Answer {
    /// `None`: anything.
    pub schema: Option<Part>,
    /// What to ask for; empty: nothing in particular.
    pub accept: String,
    pub pagination: Option<Pagination>,
}

/// What an operation answers. A schema that cannot be kept is left out, with a note.
pub(super) fn answer<'a>(
    document: &'a Document,
    schemas: &Schemas<'a>,
    operation: &Node<'a>,
    parameters: &[Parameter],
    notes: &mut Vec<String>,
) -> Result<Answer, String> {
    let mut successes = Vec::new();
    for (code, response) in operation.get("responses").iter().flat_map(Node::members) {
        if code.len() == 3 && code.starts_with('2') {
            match document.resolve(response) {
                Ok(response) => successes.push(response),
                Err(reason) => notes.push(format!("response {code} is left out: {reason}")),
            }
        }
    }
    let medias: Vec<_> = successes.iter().map(json_of).collect();
    let accept = medias.iter().flatten().next().map_or("", |(name, _)| name.as_str());
    let accept = if accept.bytes().all(|byte| (b' '..=b'~').contains(&byte)) { accept } else { "" };
    let pagination = match operation.get(EXTENSION) {
        Some(given) => Some(given_pagination(&given, parameters)?),
        None => recognised(document, &successes, &medias, parameters),
    };
    let schema = result(schemas, &successes, &medias).unwrap_or_else(|reason| {
        notes.push(format!("the schema of the result is left out: {reason}"));
        None
    });
    let schema = schema.map(|part| if pagination.is_some() { wrapped(part) } else { part });
    Ok(Answer { schema, accept: accept.to_owned(), pagination })
}

/// The media type of a response that is JSON, the plainest first.
fn json_of<'a>(response: &Node<'a>) -> Option<(String, Node<'a>)> {
    let content = response.get("content")?;
    let json = content.members().filter(|(name, _)| media::is_json(name));
    json.min_by_key(|(name, _)| media::body_format(name).0).map(|(name, media)| (name.clone(), media))
}

/// The schema of the result: that of the only success, or one of those of several. `None`: not known.
fn result<'a>(
    schemas: &Schemas<'a>,
    successes: &[Node<'a>],
    medias: &[Option<(String, Node<'a>)>],
) -> Result<Option<Part>, String> {
    let mut parts: Vec<Part> = Vec::new();
    for (response, media) in successes.iter().zip(medias) {
        let part = match media {
            Some((_, media)) => schemas.convert(&schema_of(media), Direction::Response)?,
            // What toolcrib answers for an empty body, and for one that is not JSON.
            None if response.get("content").is_none() => Part::plain(json!({
                "type": "object", "properties": {"status": {"type": "integer"}}, "required": ["status"],
            })),
            None => return Ok(None),
        };
        if !parts.iter().any(|known| known.schema == part.schema) {
            parts.push(part);
        }
    }
    if medias.iter().all(Option::is_none) || parts.iter().any(|part| !part.schema.is_object()) {
        return Ok(None);
    }
    if parts.len() < 2 {
        return Ok(parts.pop());
    }
    let refers = parts.iter().flat_map(|part| part.refers.clone()).collect();
    let schemas: Vec<Value> = parts.into_iter().map(|part| part.schema).collect();
    Ok(Some(Part { schema: json!({ "anyOf": schemas }), refers }))
}

/// The result and what to add to the arguments for the next page.
fn wrapped(part: Part) -> Part {
    let schema = json!({
        "type": "object",
        "properties": {
            "result": part.schema,
            "next_arguments": {
                "type": ["object", "null"],
                "description": "What to add to the same arguments for the next page; null: there is none.",
            },
        },
        "required": ["result", "next_arguments"],
    });
    Part { schema, refers: part.refers }
}

fn given_pagination(given: &Node<'_>, parameters: &[Parameter]) -> Result<Pagination, String> {
    let wanted = given.text("argument");
    let argument = queried(parameters, wanted)
        .or_else(|| parameters.iter().find(|parameter| parameter.http.argument == wanted))
        .ok_or_else(|| format!("{EXTENSION} at {} names no parameter: {wanted:?}", given.at))?;
    let argument = argument.http.argument.clone();
    let next = match (given.text("cursor_pointer"), given.text("link_parameter")) {
        (pointer, "") if pointer.starts_with('/') => NextPage::CursorPointer(pointer.to_owned()),
        ("", name) if !name.is_empty() => NextPage::LinkParameter(name.to_owned()),
        _ => {
            return Err(format!(
                "{EXTENSION} at {} needs either a cursor_pointer, a JSON pointer, or a link_parameter",
                given.at
            ));
        }
    };
    Ok(Pagination { next, argument })
}

fn queried<'p>(parameters: &'p [Parameter], name: &str) -> Option<&'p Parameter> {
    parameters
        .iter()
        .find(|parameter| parameter.http.location == HttpLocation::Query && parameter.http.name == name)
}

/// Pages that show by themselves: a Link header beside a parameter for the page, or a cursor in the answer beside
/// the parameter that takes it.
fn recognised<'a>(
    document: &'a Document,
    successes: &[Node<'a>],
    medias: &[Option<(String, Node<'a>)>],
    parameters: &[Parameter],
) -> Option<Pagination> {
    let has_link = successes.iter().any(|response| {
        let headers = response.get("headers");
        headers.iter().flat_map(Node::members).any(|(name, _)| name.eq_ignore_ascii_case("link"))
    });
    if has_link && let Some(page) = LINKED.iter().find_map(|name| queried(parameters, name)) {
        let next = NextPage::LinkParameter(page.http.name.clone());
        return Some(Pagination { next, argument: page.http.argument.clone() });
    }
    let (_, media) = medias.iter().flatten().next()?;
    let schema = document.resolve(schema_of(media)).ok()?;
    let properties = schema.get("properties")?;
    CURSORS.iter().find_map(|(name, member)| {
        let page = queried(parameters, name)?;
        properties.get(member)?;
        let next = NextPage::CursorPointer(format!("/{member}"));
        Some(Pagination { next, argument: page.http.argument.clone() })
    })
}
