//! Learning against a real PostgreSQL: what outcomes and feedback leave in the tables, and what is told of it.

use ::rpc::{ErrorReason, reason_of};
use chrono::Utc;
use embed::Vector;
use proto::{
    registry::v1::ToolDefinition,
    selector::v1::{
        Effectiveness, GetEffectivenessRequest, Outcome, RecordFeedbackRequest, RecordFeedbackResponse,
    },
    types::v1::Category,
};
use tonic::{Code, Response, Status};
use types::Role;
use uuid::Uuid;

use super::house::{House, outcome, task, tool, until};
use crate::learn;

pub(super) async fn house() -> House {
    let house = House::new().await;
    for name in ["alpha_search", "beta_search", "gamma_search"] {
        let searcher = tool(name, "Searches the web for pages.", &["search"]);
        house.add(ToolDefinition { category: Category::WebSearch.into(), ..searcher });
    }
    house
}

/// A logged selection of an agent, with the vector of its task.
pub(super) async fn selection(house: &House, team: &str, agent: &str, category: &str) -> Uuid {
    let id = types::new_id();
    sqlx::query(
        r#"INSERT INTO selector.selection (
             team_id, id, agent_id, task_id, task_digest, task_length, candidate_count, ranked, create_time,
             task_category, model_id, task_vector)
         VALUES ($1, $2, $3, '', '', 0, 2, '[{"name": "alpha_search"}, {"name": "beta_search"}]', now(), $4, 'model', $5)"#,
    )
    .bind(team)
    .bind(id)
    .bind(agent)
    .bind(category)
    .bind(Vector::of(&[0.6, 0.8]).to_bytes())
    .execute(house.database.pool().unwrap())
    .await
    .unwrap();
    id
}

pub(super) fn following(selection: Uuid, agent: &str, tool: &str, succeeded: bool) -> Outcome {
    Outcome { selection_id: selection.to_string(), ..outcome(agent, tool, succeeded, 50.0) }
}

pub(super) async fn followed(house: &House, id: Uuid) -> (Option<String>, Option<bool>) {
    sqlx::query_as("SELECT followed_tool, succeeded FROM selector.selection WHERE id = $1")
        .bind(id)
        .fetch_one(house.database.pool().unwrap())
        .await
        .unwrap()
}

pub(super) async fn number(house: &House, query: &'static str) -> i64 {
    sqlx::query_scalar(query).fetch_one(house.database.pool().unwrap()).await.unwrap()
}

pub(super) async fn effectiveness_as(
    house: &House,
    caller: (&str, &str, Role),
    request: GetEffectivenessRequest,
) -> Result<(Vec<Effectiveness>, String), Status> {
    let (team, agent, role) = caller;
    let request = house.by(team, agent, role, request);
    let answer = house.client().get_effectiveness(request).await?.into_inner();
    Ok((answer.tools, answer.next_page_token))
}

pub(super) async fn effectiveness(house: &House, tool: &str) -> Effectiveness {
    let request = GetEffectivenessRequest { tool_name: tool.into(), ..GetEffectivenessRequest::default() };
    // Who may read of every tool, whether this replica has it in its catalog or not.
    let (tools, _) = effectiveness_as(house, ("team", "eye", Role::Auditor), request).await.unwrap();
    tools.into_iter().next().unwrap_or_default()
}

pub(super) async fn feedback(
    house: &House,
    caller: (&str, &str, Role),
    request: RecordFeedbackRequest,
) -> Result<RecordFeedbackResponse, Status> {
    let (team, agent, role) = caller;
    let request = house.by(team, agent, role, request);
    house.client().record_feedback(request).await.map(Response::into_inner)
}

pub(super) fn rating(selection: Uuid, quality: f64) -> RecordFeedbackRequest {
    RecordFeedbackRequest {
        selection_id: selection.to_string(),
        quality: Some(quality),
        ..RecordFeedbackRequest::default()
    }
}

pub(super) const SCOUT: (&str, &str, Role) = ("team", "scout", Role::Agent);

#[tokio::test]
async fn the_first_call_that_follows_a_selection_is_noted_and_foreign_ones_are_not() {
    let house = house().await;
    let own = selection(&house, "team", "scout", "file_io").await;
    let theirs = selection(&house, "team", "veteran", "file_io").await;
    let foreign = selection(&house, "other", "scout", "file_io").await;
    let mut first = following(own, "scout", "beta_search", true);
    let mut second = following(own, "scout", "alpha_search", false);
    second.time = first.time.map(|time| prost_types::Timestamp { seconds: time.seconds + 1, ..time });
    // The later one comes first in the same request.
    house.record(vec![second.clone(), first.clone()]).await.unwrap();
    assert_eq!(followed(&house, own).await, (Some("beta_search".into()), Some(true)));
    (first.event_id, second.event_id) = (types::new_id().to_string(), types::new_id().to_string());
    house.record(vec![second]).await.unwrap();
    assert_eq!(followed(&house, own).await.0.as_deref(), Some("beta_search"));
    let strays = vec![
        following(theirs, "scout", "beta_search", true),
        following(foreign, "scout", "beta_search", true),
        following(types::new_id(), "scout", "beta_search", true),
    ];
    assert_eq!(house.record(strays).await.unwrap(), 3, "they count, and follow nothing");
    assert_eq!(followed(&house, theirs).await, (None, None));
    assert_eq!(followed(&house, foreign).await, (None, None));
    // The kind of work is that of the selection, else that of the tool, else custom.
    house.record(vec![outcome("scout", "unknown", true, 50.0)]).await.unwrap();
    let kinds: Vec<(String, String, i64)> = sqlx::query_as(
        "SELECT tool_name, category, executions FROM selector.record WHERE team_id = 'team' ORDER BY 1, 2",
    )
    .fetch_all(house.database.pool().unwrap())
    .await
    .unwrap();
    let kind = |tool: &str, category: &str, count| (tool.to_owned(), category.to_owned(), count);
    assert_eq!(
        kinds,
        [
            kind("alpha_search", "file_io", 2),
            kind("beta_search", "file_io", 1),
            kind("beta_search", "web_search", 3),
            kind("unknown", "custom", 1),
        ]
    );
}

#[tokio::test]
async fn whoever_calls_at_once_what_was_selected_is_known_to_have_followed() {
    let house = house().await;
    for _ in 0..20 {
        let id = house.select(task("search the web")).await.unwrap().selection_id;
        let id: Uuid = id.parse().unwrap();
        house.record(vec![following(id, "scout", "beta_search", true)]).await.unwrap();
        assert_eq!(followed(&house, id).await.0.as_deref(), Some("beta_search"));
        feedback(&house, SCOUT, rating(id, 1.0)).await.unwrap();
    }
}

#[tokio::test]
async fn a_success_that_followed_moves_the_tool_towards_its_task() {
    let house = house().await;
    let (own, theirs) =
        (selection(&house, "team", "scout", "").await, selection(&house, "team", "veteran", "").await);
    house
        .record(vec![
            following(own, "scout", "alpha_search", true),
            following(own, "scout", "beta_search", false),
            following(theirs, "scout", "gamma_search", true),
            outcome("scout", "gamma_search", true, 50.0),
        ])
        .await
        .unwrap();
    assert_eq!(number(&house, "SELECT count(*) FROM selector.centroid").await, 1);
    // Another replica knows it as well, of this model alone.
    let (learned, _) = learn::start(&house.database).await.unwrap();
    let team = learned.team("team");
    let mean = team["alpha_search"].mean("newcomer", "model").unwrap();
    assert!(
        mean.vector.dot(&Vector::of(&[0.6, 0.8])) > 0.99 && (mean.successes - 1.0).abs() < 0.01,
        "{mean:?}"
    );
    assert!(team["alpha_search"].mean("newcomer", "another").is_none());
    // One selection teaches once, and no answer of a cache does.
    let again = (0..9).map(|_| following(own, "scout", "alpha_search", true)).collect();
    house.record(again).await.unwrap();
    let other = selection(&house, "team", "scout", "").await;
    house
        .record(vec![Outcome { cached: true, ..following(other, "scout", "alpha_search", true) }])
        .await
        .unwrap();
    assert_eq!(number(&house, "SELECT sum(successes)::bigint FROM selector.centroid").await, 1);
    for _ in 0..9 {
        let next = selection(&house, "team", "scout", "").await;
        house.record(vec![following(next, "scout", "alpha_search", true); 2]).await.unwrap();
    }
    let (learned, _) = learn::start(&house.database).await.unwrap();
    let team = learned.team("team");
    let successes = |agent| team["alpha_search"].mean(agent, "model").unwrap().successes;
    assert!(
        successes("scout") > 7.9 && (successes("newcomer") - 5.0).abs() < 0.01,
        "of one agent, five count"
    );
}

#[tokio::test]
async fn what_the_platform_did_counts_against_no_tool() {
    let house = house().await;
    let failed = |reason: &str| Outcome {
        failure_reason: reason.into(),
        ..outcome("scout", "alpha_search", false, 5.0)
    };
    let cached = Outcome { cached: true, ..outcome("scout", "alpha_search", true, 0.0) };
    let outcomes =
        vec![cached, failed("RATE_LIMITED"), failed("CANCELLED"), failed("TOOL_BUSY"), failed("TIMEOUT")];
    assert_eq!(house.record(outcomes).await.unwrap(), 5);
    let told = effectiveness(&house, "alpha_search").await;
    assert_eq!((told.executions, told.successes), (1, 0), "{told:?}");
    assert_eq!(number(&house, "SELECT sum(calls)::bigint FROM selector.hour").await, 5);
    assert_eq!(number(&house, "SELECT sum(cached)::bigint FROM selector.hour").await, 1);
}

#[tokio::test]
async fn what_says_nothing_of_the_tool_followed_and_is_no_success_or_failure_to_fit_weights_to() {
    let house = house().await;
    let calls = [
        (Outcome { cached: true, ..outcome("scout", "alpha_search", true, 0.0) }, None),
        (
            Outcome { failure_reason: "RATE_LIMITED".into(), ..outcome("scout", "alpha_search", false, 0.0) },
            None,
        ),
        (
            Outcome { failure_reason: "CIRCUIT_OPEN".into(), ..outcome("scout", "alpha_search", false, 0.0) },
            Some(false),
        ),
        (outcome("scout", "alpha_search", true, 9.0), Some(true)),
    ];
    for (call, succeeded) in calls {
        let id = selection(&house, "team", "scout", "").await;
        house.record(vec![Outcome { selection_id: id.to_string(), ..call.clone() }]).await.unwrap();
        assert_eq!(followed(&house, id).await, (Some("alpha_search".into()), succeeded), "{call:?}");
    }
    let samples =
        crate::store::policy::samples_read(house.database.pool().unwrap(), "team", 9).await.unwrap();
    assert_eq!(samples.len(), 2);
}

#[tokio::test]
async fn a_tool_that_fails_suddenly_raises_an_alarm_that_its_recovery_ends() {
    let house = house().await;
    let mut second = 0;
    let mut calls = |count: usize, succeeded: bool| -> Vec<Outcome> {
        let at = |_| {
            second += 1;
            let failure_reason = if succeeded { String::new() } else { "UNREACHABLE".into() };
            let time =
                Some(prost_types::Timestamp { seconds: Utc::now().timestamp() - 3_600 + second, nanos: 0 });
            Outcome { time, failure_reason, ..outcome("scout", "alpha_search", succeeded, 50.0) }
        };
        (0..count).map(at).collect()
    };
    let alarm = async |house: &House| effectiveness(house, "alpha_search").await.alarm;
    house.record(calls(40, true)).await.unwrap();
    assert_eq!(alarm(&house).await, None);
    for call in calls(8, false) {
        house.record(vec![call]).await.unwrap();
    }
    let on = alarm(&house).await.unwrap();
    assert!(on.rate_before > 0.8 && on.rate_since < 0.1, "{on:?}");
    assert_eq!(on.failure_reason, "UNREACHABLE");
    assert_eq!(number(&house, "SELECT count(*) FROM selector.alarm WHERE end_time IS NULL").await, 1);
    let replica = House::on(house.database.clone()).await;
    assert_eq!(alarm(&replica).await.unwrap().start_time, on.start_time);
    house.record(calls(15, true)).await.unwrap();
    assert_eq!(alarm(&house).await, None);
    until(async || alarm(&replica).await.is_none()).await;
    assert_eq!(number(&house, "SELECT count(*) FROM selector.alarm WHERE end_time IS NULL").await, 0);
}

#[tokio::test]
async fn a_running_replica_learns_what_another_recorded() {
    let (first, calls) = (house().await, |count| vec![outcome("scout", "alpha_search", true, 50.0); count]);
    let second = House::on(first.database.clone()).await;
    second.add(tool("alpha_search", "Searches the web for pages.", &["search"]));
    first.record(calls(1)).await.unwrap();
    until(async || effectiveness(&second, "alpha_search").await.executions == 1).await;
    let answer = second.select(task("search the web")).await.unwrap();
    assert_eq!(answer.primary.unwrap().executions, 1);
}

#[tokio::test]
async fn two_replicas_that_learn_of_the_same_tool_lose_nothing() {
    let first = house().await;
    let second = House::on(first.database.clone()).await;
    let shared = selection(&first, "team", "scout", "").await;
    let send = async |house: &House| {
        for _ in 0..20 {
            let own = selection(house, "team", "scout", "").await;
            let some = [own, shared, own, shared, shared];
            let some = some.map(|id| following(id, "scout", "alpha_search", true)).to_vec();
            house.record(some).await.unwrap();
        }
    };
    tokio::join!(send(&first), send(&second));
    assert_eq!(number(&first, "SELECT sum(executions)::bigint FROM selector.record").await, 200);
    let taught = number(&first, "SELECT sum(successes)::bigint FROM selector.centroid").await;
    assert_eq!(taught, 41, "each selection once, that of both too");
    assert_eq!(number(&first, "SELECT (watch ->> 'outcomes')::bigint FROM selector.tool").await, 200);
    until(async || effectiveness(&first, "alpha_search").await.executions == 200).await;
    until(async || effectiveness(&second, "alpha_search").await.executions == 200).await;
}

#[tokio::test]
async fn wrong_feedback_is_refused_and_a_foreign_selection_looks_like_none() {
    let house = house().await;
    let own = selection(&house, "team", "scout", "").await;
    let theirs = selection(&house, "team", "veteran", "").await;
    let foreign = selection(&house, "other", "scout", "").await;
    let plain = RecordFeedbackRequest { selection_id: own.to_string(), ..RecordFeedbackRequest::default() };
    let wrong = [
        plain.clone(),
        rating(own, 1.01),
        rating(own, -0.1),
        rating(own, f64::NAN),
        RecordFeedbackRequest { selection_id: String::new(), ..rating(own, 0.5) },
        RecordFeedbackRequest { selection_id: "seven".into(), ..rating(own, 0.5) },
        RecordFeedbackRequest { tool_name: "gamma_search".into(), ..rating(own, 0.5) },
        RecordFeedbackRequest { request_id: "seven".into(), ..rating(own, 0.5) },
        RecordFeedbackRequest { comment: "x".repeat(4_097), ..plain.clone() },
        RecordFeedbackRequest { comment: "  ".into(), ..plain },
    ];
    for request in wrong {
        let refusal = feedback(&house, SCOUT, request.clone()).await.unwrap_err();
        assert_eq!(refusal.code(), Code::InvalidArgument, "{request:?}");
    }
    for id in [theirs, foreign, types::new_id()] {
        let refusal = feedback(&house, SCOUT, rating(id, 0.5)).await.unwrap_err();
        assert_eq!(reason_of(&refusal), Some(ErrorReason::NotFound));
        assert_eq!(refusal.message(), format!("there is no selection {id}"));
    }
    let operator = ("team", "boss", Role::Operator);
    feedback(&house, operator, rating(theirs, 0.5)).await.unwrap();
    assert_eq!(feedback(&house, operator, rating(foreign, 0.5)).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(number(&house, "SELECT count(*) FROM selector.feedback").await, 1);
}

#[tokio::test]
async fn one_giver_has_one_say_and_a_repeated_request_none_more() {
    let house = house().await;
    let id = selection(&house, "team", "scout", "web_search").await;
    let secret = "sk_live_51HqJ8KLkjhGFDSaqwertyuiop1234567890";
    let request = RecordFeedbackRequest {
        request_id: Uuid::new_v4().to_string(),
        comment: format!("wrong page; my key is {secret}"),
        ..rating(id, 0.0)
    };
    let first = feedback(&house, SCOUT, request.clone()).await.unwrap();
    assert!(!first.replaced);
    assert_eq!(feedback(&house, SCOUT, request.clone()).await.unwrap(), first);
    let reused = RecordFeedbackRequest { quality: Some(1.0), ..request.clone() };
    let refusal = feedback(&house, SCOUT, reused).await.unwrap_err();
    assert_eq!(reason_of(&refusal), Some(ErrorReason::RequestIdReused));
    let told = effectiveness(&house, "alpha_search").await;
    assert_eq!(
        (told.feedbacks, told.quality),
        (1, Some(0.0)),
        "an unnamed tool is the primary one: {told:?}"
    );
    assert!(told.suitability_score < 0.5, "{told:?}");
    // The same giver thinks better of it: nothing is left of what it said before.
    let second = feedback(&house, SCOUT, rating(id, 1.0)).await.unwrap();
    assert_eq!((second.replaced, &second.feedback_id), (true, &first.feedback_id));
    let told = effectiveness(&house, "alpha_search").await;
    assert!(told.feedbacks == 1 && told.quality.unwrap() > 0.999 && told.suitability_score > 0.5, "{told:?}");
    // A person has a say of its own.
    feedback(&house, ("team", "boss", Role::Operator), rating(id, 0.0)).await.unwrap();
    let told = effectiveness(&house, "alpha_search").await;
    assert!(told.feedbacks == 2 && (told.quality.unwrap() - 0.5).abs() < 0.001, "{told:?}");
    let said = RecordFeedbackRequest {
        selection_id: id.to_string(),
        comment: format!("my key is {secret}"),
        followed: Some(true),
        ..RecordFeedbackRequest::default()
    };
    feedback(&house, SCOUT, said).await.unwrap();
    let kept: Vec<(String, bool)> =
        sqlx::query_as("SELECT comment, by_person FROM selector.feedback ORDER BY by_person")
            .fetch_all(house.database.pool().unwrap())
            .await
            .unwrap();
    assert!(kept[0].0.starts_with("my key is") && !kept[0].0.contains("qwerty"), "{kept:?}");
    assert_eq!((kept.len(), kept[0].1, kept[1].1), (2, false, true));
    assert_eq!(followed(&house, id).await, (Some("alpha_search".into()), None));
    let told = effectiveness(&house, "alpha_search").await;
    assert!(told.quality.unwrap() < 0.001, "the agent's quality is taken back: {told:?}");
    // The call that is recorded after all is what followed.
    house.record(vec![following(id, "scout", "beta_search", true)]).await.unwrap();
    assert_eq!(followed(&house, id).await, (Some("beta_search".into()), Some(true)));
}

#[tokio::test]
async fn what_is_past_its_time_goes_and_the_record_stays() {
    let house = house().await;
    let id = selection(&house, "team", "scout", "").await;
    let old = Utc::now().timestamp() - 31 * 86_400;
    let long_ago = Outcome {
        time: Some(prost_types::Timestamp { seconds: old, nanos: 0 }),
        ..following(id, "scout", "alpha_search", true)
    };
    house.record(vec![long_ago]).await.unwrap();
    feedback(&house, SCOUT, rating(id, 1.0)).await.unwrap();
    let pool = house.database.pool().unwrap();
    for make_old in [
        "UPDATE selector.outcome SET create_time = now() - interval '31 days'",
        "UPDATE selector.selection SET create_time = now() - interval '31 days'",
        "INSERT INTO selector.alarm VALUES ('team', 'x', now() - interval '31 days', NULL, 1, 0, '', 1)",
        "INSERT INTO selector.alarm VALUES ('team', 'y', now() - interval '40 days', now() - interval '31 days', 1, 0, '', 1)",
    ] {
        sqlx::query(make_old).execute(pool).await.unwrap();
    }
    crate::store::rows_delete_expired(pool).await.unwrap();
    for (table, left) in [
        ("selection", 0_i64),
        ("outcome", 0),
        ("hour", 0),
        ("tool", 0),
        ("feedback", 0),
        ("record", 1),
        ("centroid", 1),
        ("alarm", 1),
    ] {
        let count = sqlx::AssertSqlSafe(format!("SELECT count(*) FROM selector.{table}"));
        let count: i64 = sqlx::query_scalar(count).fetch_one(pool).await.unwrap();
        assert_eq!(count, left, "{table}");
    }
    assert_eq!(number(&house, "SELECT count(*) FROM selector.alarm WHERE end_time IS NULL").await, 0);
}
