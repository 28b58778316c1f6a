//! The same request twice: `request_id` and body decide. The first answer is given again, a run under way
//! is joined, another body is refused. Recorded answers are sanitised, as everything stored is.

use std::time::Duration;

use ::rpc::Call;
use types::Caller;
use uuid::Uuid;

use crate::{
    Error, Executor,
    invoke::{Answer, Options, Request, Turn},
    outcome::{self, Status},
    store::{self, Execution},
};

/// How often a run of another process is looked at.
const POLL: Duration = Duration::from_millis(50);

/// The execution of an earlier request with the same id and body; `None` when there was none, or no id.
pub(crate) async fn find(executor: &Executor, call: &Call, request: &Request) -> Result<Option<Uuid>, Error> {
    if request.request_id.is_empty() {
        return Ok(None);
    }
    let pool = executor.database.pool()?;
    match store::request_get(pool, &call.caller.team, &request.request_id).await? {
        None => Ok(None),
        Some((id, digest)) if is_of(&digest, &call.caller, request) => Ok(Some(id)),
        Some(_) => Err(Error::RequestIdReused(request.request_id.clone())),
    }
}

/// The answer of the request that took the id a moment before this one.
pub(crate) async fn join(executor: &Executor, call: &Call, request: &Request) -> Result<Answer, Error> {
    match find(executor, call, request).await? {
        Some(id) => ended(executor, call, id).await,
        // It was held back, and gave its id up again.
        None => Err(Error::Overtaken),
    }
}

/// Whether a digest is that of a request, by this version's form or the one before it.
fn is_of(digest: &str, caller: &Caller, request: &Request) -> bool {
    let is_new = !request.justification.is_empty()
        || !caller.user.is_empty()
        || request.turn.as_ref().is_some_and(|turn| turn.waits);
    digest == body_digest(caller, request) || !is_new && digest == positional_digest(caller, request)
}

/// What makes two requests the same: who asks and everything asked, to the letter. Each field goes by its name and
/// only where it is not what it is by default, so that one that is added later changes no digest that is kept.
pub(crate) fn body_digest(caller: &Caller, request: &Request) -> String {
    let Request {
        tool,
        arguments_json,
        request_id: _,
        task_id,
        timeout_ms,
        selection_id,
        options,
        justification,
        turn,
    } = request;
    let Options { max_retries, skip_cache, max_age_s, no_fallbacks, degradation } = options;
    let turn = turn.as_ref();
    let not_before = turn.and_then(|turn| turn.not_before);
    let fields = [
        ("agent", said(&caller.agent)),
        // Another user's answer is not this one's.
        ("user", said(&caller.user)),
        ("tool", said(tool)),
        ("arguments_json", said(arguments_json)),
        ("task_id", said(task_id)),
        ("timeout_ms", unless_default(timeout_ms)),
        ("selection_id", said(selection_id)),
        ("justification", said(justification)),
        ("options.max_retries", max_retries.map(|retries| retries.to_string())),
        ("options.skip_cache", unless_default(skip_cache)),
        ("options.max_age_s", unless_default(max_age_s)),
        ("options.no_fallbacks", unless_default(no_fallbacks)),
        ("options.degradation", unless_default(degradation)),
        // A queued call has it always, and so is never the same as one that is waited for.
        ("turn.max_deliveries", turn.map(|turn| turn.max_deliveries.to_string())),
        ("turn.priority", turn.and_then(|turn| unless_default(&turn.priority))),
        ("turn.waits", turn.and_then(|turn| unless_default(&turn.waits))),
        ("turn.not_before_s", not_before.map(|at| at.timestamp().to_string())),
        ("turn.not_before_ns", not_before.and_then(|at| unless_default(&at.timestamp_subsec_nanos()))),
    ];
    let present = fields.iter().filter_map(|(name, value)| Some([*name, value.as_deref()?]));
    digest_of(present.flatten())
}

fn said(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn unless_default<T: Default + PartialEq + ToString>(value: &T) -> Option<String> {
    (*value != T::default()).then(|| value.to_string())
}

/// The form of the version before this one, by place and not by name. Must never change: digests of that version are
/// in the database, and its processes still write them while they are replaced. The next version can do without.
fn positional_digest(caller: &Caller, request: &Request) -> String {
    let Options { max_retries, skip_cache, max_age_s, no_fallbacks, degradation } = &request.options;
    let turn = match &request.turn {
        None => "None".to_owned(),
        Some(Turn { priority, not_before, max_deliveries, waits: _ }) => format!(
            "Some(Turn {{ priority: {priority}, not_before: {not_before:?}, max_deliveries: {max_deliveries} }})"
        ),
    };
    let overrides = format!(
        "Options {{ max_retries: {max_retries:?}, skip_cache: {skip_cache}, max_age_s: {max_age_s}, \
         no_fallbacks: {no_fallbacks}, degradation: {degradation} }}{turn}"
    );
    let timeout_ms = request.timeout_ms.to_string();
    digest_of([
        caller.agent.as_str(),
        &request.tool,
        &request.arguments_json,
        &request.task_id,
        &timeout_ms,
        &request.selection_id,
        &overrides,
    ])
}

/// Each part with its length before it.
fn digest_of<'a>(parts: impl IntoIterator<Item = &'a str>) -> String {
    let mut bytes = Vec::new();
    for part in parts {
        bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
        bytes.extend_from_slice(part.as_bytes());
    }
    types::digest_bytes(&bytes)
}

/// Waits until an execution has ended, at most until the caller's deadline.
pub(crate) async fn ended(executor: &Executor, call: &Call, id: Uuid) -> Result<Answer, Error> {
    let wait = async {
        loop {
            let found = store::execution_get(executor.database.pool()?, &call.caller.team, id).await?;
            let execution: Execution = found.ok_or_else(|| Error::NotFound(id.to_string()))?;
            if let Some(error) = outcome::held_back(&execution) {
                // Its request id is free again: whoever joined it is told the same, and may come again too.
                let execution_id = execution.id.to_string();
                return Err(Error::held_back(execution.tool_name, &error, execution_id));
            }
            if Status::is_terminal(&execution.status) {
                return Ok(Answer { execution, replayed: true, standings: Vec::new() });
            }
            tokio::time::sleep(POLL).await;
        }
    };
    let late = || Err(Error::Deadline { execution_id: id.to_string() });
    tokio::time::timeout(call.time_left(), wait).await.unwrap_or_else(|_| late())
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Utc};

    use super::*;

    #[test]
    fn every_part_of_a_request_counts_and_its_id_does_not() {
        let caller = Caller { agent: "a".into(), ..Caller::service("x") };
        let request = Request {
            tool: "t".into(),
            arguments_json: "{}".into(),
            request_id: "r".into(),
            ..Request::default()
        };
        let same = body_digest(&caller, &request);
        assert_eq!(body_digest(&caller, &Request { request_id: "s".into(), ..request.clone() }), same);
        let others = [
            Request { tool: "u".into(), ..request.clone() },
            Request { arguments_json: "{ }".into(), ..request.clone() },
            Request { task_id: "k".into(), ..request.clone() },
            Request { timeout_ms: 1, ..request.clone() },
            Request { selection_id: "k".into(), ..request.clone() },
            Request { justification: "k".into(), ..request.clone() },
            Request { options: Options { skip_cache: true, ..Options::default() }, ..request.clone() },
            Request {
                turn: Some(Turn { priority: 0, not_before: None, max_deliveries: 5, waits: false }),
                ..request.clone()
            },
        ];
        for other in &others {
            assert_ne!(body_digest(&caller, other), same, "{other:?}");
        }
        let of_user = Caller { user: "ada".into(), ..caller.clone() };
        let of_another = Caller { user: "bob".into(), ..caller.clone() };
        assert_ne!(body_digest(&of_user, &request), same);
        assert!(!is_of(&same, &of_user, &request), "what was asked for nobody is not hers");
        assert!(!is_of(&body_digest(&of_user, &request), &of_another, &request));
        assert!(!is_of(&body_digest(&of_user, &request), &caller, &request));
        assert!(!is_of(&positional_digest(&caller, &request), &of_user, &request));
        assert_ne!(body_digest(&Caller { agent: "b".into(), ..caller }, &request), same);
    }

    fn requests() -> [Request; 3] {
        let plain = Request { tool: "t".into(), arguments_json: r#"{"a":1}"#.into(), ..Request::default() };
        let options = Options {
            max_retries: Some(3),
            skip_cache: true,
            max_age_s: 60,
            no_fallbacks: true,
            degradation: 2,
        };
        let not_before = DateTime::<Utc>::from_timestamp(1_763_800_000, 5_000_000);
        let turn = Some(Turn { priority: -7, not_before, max_deliveries: 5, waits: false });
        let (task_id, timeout_ms) = ("k".to_owned(), 900);
        [
            plain.clone(),
            Request { options: options.clone(), task_id, timeout_ms, ..plain.clone() },
            Request { options, turn, selection_id: "s".into(), ..plain },
        ]
    }

    /// What is kept in databases does not follow the code.
    #[test]
    fn the_digests_of_this_version_and_the_one_before_it_never_change() {
        let caller = Caller { agent: "a".into(), ..Caller::service("x") };
        let told = requests().map(|request| {
            let (now, before) = (body_digest(&caller, &request), positional_digest(&caller, &request));
            assert!(is_of(&now, &caller, &request) && is_of(&before, &caller, &request));
            let other = Request { timeout_ms: 77, ..request };
            assert!(!is_of(&now, &caller, &other) && !is_of(&before, &caller, &other));
            [now[..16].to_owned(), before[..16].to_owned()]
        });
        // Worked out by hand from the two forms, the second as Rust's Debug wrote it.
        let expected = [
            ["8309bb2108feb54c", "5bd9d8188b0c45cd"],
            ["758a6534a58d2726", "86a20b57c99b0de5"],
            ["3a162f1e26bce9ed", "24d049456aaf994c"],
        ];
        assert_eq!(told, expected);
    }
}
