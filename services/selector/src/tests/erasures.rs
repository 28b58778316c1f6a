//! Erasures of end users through the whole service: what was selected and said for them goes, what is of others stays,
//! and none is done while a selection may still be written.

use std::time::Duration;

use ::rpc::{ErrorReason, reason_of};
use chrono::{DateTime, TimeDelta, Utc};
use proto::selector::v1::{EraseUserRequest, EraseUserResponse, RecordFeedbackRequest};
use tonic::{Code, Status};
use types::{Caller, Role};
use uuid::Uuid;

use super::{
    house::{House, config, outcome, task, until},
    searchers,
};
use crate::{
    Config, select,
    store::{self, SelectionRow},
    wanted::Wanted,
};

/// As the configuration has it.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

fn scout(team: &str, user: &str) -> Caller {
    let agent = Caller { team: team.into(), agent: "scout".into(), ..Caller::service("x") };
    Caller { role: Role::Agent, service: None, user: user.into(), ..agent }
}

fn row(caller: &Caller, id: Uuid, time: DateTime<Utc>) -> SelectionRow {
    let selection = select::Selection { id, ..select::Selection::default() };
    SelectionRow::new(caller, &Wanted::default(), &selection, time)
}

/// A selection of this time.
async fn selected(house: &House, caller: &Caller, time: DateTime<Utc>) -> Uuid {
    let id = types::new_id();
    let (pool, rows) = (house.database.pool().unwrap(), [row(caller, id, time)]);
    assert_eq!(store::selections_insert(pool, &rows, Duration::from_hours(1)).await.unwrap(), 1);
    id
}

/// Feedback on a selection, as if it were given on behalf of a user.
async fn said(house: &House, (team, user): (&str, &str), selection: Uuid, tool: &str) -> Uuid {
    let id = types::new_id();
    sqlx::query(
        "INSERT INTO selector.feedback (
             team_id, id, selection_id, tool_name, agent_id, by_person, request_id, quality, comment, create_time,
             update_time, user_id)
         VALUES ($1, $2, $3, $4, 'scout', true, '', 0.5, 'words of ' || $5, now() - interval '1 minute',
             now() - interval '1 minute', $5)",
    )
    .bind(team)
    .bind(id)
    .bind(selection)
    .bind(tool)
    .bind(user)
    .execute(house.database.pool().unwrap())
    .await
    .unwrap();
    id
}

fn of_ada(before: DateTime<Utc>) -> EraseUserRequest {
    EraseUserRequest {
        team_id: "team".into(),
        user: "ada".into(),
        end_time: Some(prost_types::Timestamp {
            seconds: before.timestamp(),
            nanos: i32::try_from(before.timestamp_subsec_nanos()).unwrap(),
        }),
        erasure_id: Uuid::from_u128(7).to_string(),
    }
}

async fn erase(house: &House, request: EraseUserRequest) -> Result<EraseUserResponse, Status> {
    house.client().erase_user(house.by_service("audit", request)).await.map(tonic::Response::into_inner)
}

async fn kept(house: &House, table: &str) -> Vec<Uuid> {
    let asked = format!("SELECT id FROM selector.{table} ORDER BY id");
    let pool = house.database.pool().unwrap();
    sqlx::query_scalar(sqlx::AssertSqlSafe(asked)).fetch_all(pool).await.unwrap()
}

fn sorted(mut ids: [Uuid; 4]) -> [Uuid; 4] {
    ids.sort();
    ids
}

#[tokio::test]
async fn what_was_selected_and_said_for_a_user_goes_and_what_is_of_others_stays() {
    let house = House::new().await;
    let now = Utc::now();
    let (old, before) = (now - TimeDelta::minutes(5), now - TimeDelta::seconds(30));
    // More than go in one transaction.
    let gone: Vec<Uuid> = (0..501).map(|_| types::new_id()).collect();
    let rows: Vec<SelectionRow> = gone.iter().map(|id| row(&scout("team", "ada"), *id, old)).collect();
    let pool = house.database.pool().unwrap();
    assert_eq!(store::selections_insert(pool, &rows, Duration::from_hours(1)).await.unwrap(), 501);
    let stays = [
        selected(&house, &scout("team", "bob"), old).await,
        selected(&house, &scout("team", ""), old).await,
        selected(&house, &scout("other", "ada"), old).await,
        selected(&house, &scout("team", "ada"), now).await,
    ];
    said(&house, ("team", ""), gone[0], "a").await;
    said(&house, ("team", "bob"), gone[0], "b").await;
    let of_bob = said(&house, ("team", "bob"), stays[0], "a").await;
    let of_ada_on_bobs = said(&house, ("team", "ada"), stays[0], "b").await;
    let elsewhere = said(&house, ("other", "ada"), stays[2], "a").await;
    let later = said(&house, ("team", ""), stays[3], "a").await;
    let done = erase(&house, of_ada(before)).await.unwrap();
    assert_eq!(done, EraseUserResponse { selections: 501, feedback: 3, done: true });
    assert_eq!(kept(&house, "selection").await, sorted(stays));
    assert_eq!(kept(&house, "feedback").await, sorted([of_bob, of_ada_on_bobs, elsewhere, later]));
    // What the agent thought of the tool stays, and nothing tells for whom.
    let asked = "SELECT user_id, comment, quality FROM selector.feedback WHERE id = $1";
    let row: (String, String, f64) =
        sqlx::query_as(asked).bind(of_ada_on_bobs).fetch_one(pool).await.unwrap();
    assert_eq!(row, (String::new(), String::new(), 0.5));
    let row: (String, String, f64) = sqlx::query_as(asked).bind(elsewhere).fetch_one(pool).await.unwrap();
    assert_eq!(row.1, "words of ada");
    // The same again, in another process, counts nothing twice; another erasure counts its own.
    let other = House::on(house.database.clone()).await;
    assert_eq!(erase(&other, of_ada(before)).await.unwrap(), done);
    let own = EraseUserRequest { erasure_id: Uuid::from_u128(8).to_string(), ..of_ada(before) };
    assert_eq!(erase(&house, own).await.unwrap(), EraseUserResponse { done: true, ..Default::default() });
}

#[tokio::test]
async fn an_erasure_waits_for_selections_that_are_still_written_and_later_ones_are_lost() {
    let house = House::new().await;
    let before = Utc::now();
    let answer = erase(&house, of_ada(before)).await.unwrap();
    assert!(!answer.done, "another process may still write one");
    // It writes one in time, and the next look finds it.
    selected(&house, &scout("team", "ada"), before - TimeDelta::seconds(1)).await;
    let answer = erase(&house, of_ada(before)).await.unwrap();
    assert_eq!((answer.selections, answer.done), (1, false));
    // What is late comes after all of it was said to be gone; only selections of nobody may.
    let aged = |user: &str, age: Duration| row(&scout("team", user), types::new_id(), Utc::now() - age);
    let late = WRITE_TIMEOUT + Duration::from_secs(1);
    let rows = [aged("ada", late), aged("ada", Duration::ZERO), aged("", late)];
    let pool = house.database.pool().unwrap();
    assert_eq!(store::selections_insert(pool, &rows, WRITE_TIMEOUT).await.unwrap(), 2);
    // The margin is over: done.
    let answer = erase(&house, of_ada(Utc::now() - WRITE_TIMEOUT * 2)).await.unwrap();
    assert!(answer.done);
    let patient = Config { selection_write_timeout_ms: 600_000, ..config() };
    let patient = House::configured(house.database.clone(), patient).await;
    assert!(!erase(&patient, of_ada(Utc::now() - WRITE_TIMEOUT * 2)).await.unwrap().done);
}

#[tokio::test]
async fn what_was_learned_for_a_user_stays_and_their_selection_is_not_there_any_more() {
    let house = searchers().await;
    let answer = house.select_for("ada", task("search the web")).await.unwrap();
    let feedback = RecordFeedbackRequest {
        selection_id: answer.selection_id.clone(),
        tool_name: "alpha_search".into(),
        quality: Some(1.0),
        comment: "just what ada wanted".into(),
        ..RecordFeedbackRequest::default()
    };
    let give = async |feedback| {
        house.client().record_feedback(house.by("team", "scout", Role::Agent, feedback)).await
    };
    give(feedback.clone()).await.unwrap();
    let quality = async || {
        sqlx::query_scalar::<_, f64>("SELECT sum(quality) FROM selector.record WHERE team_id = 'team'")
            .fetch_one(house.database.pool().unwrap())
            .await
            .unwrap()
    };
    let learned = quality().await;
    assert!(learned > 0.0);
    let erased = erase(&house, of_ada(Utc::now())).await.unwrap();
    assert_eq!((erased.selections, erased.feedback), (1, 1));
    assert!(kept(&house, "feedback").await.is_empty() && kept(&house, "selection").await.is_empty());
    assert!((quality().await - learned).abs() < 1e-9);
    let refused = give(feedback).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound, "{refused:?}");
    // Outcomes of calls that followed it come later and are learned from by themselves.
    let call = proto::selector::v1::Outcome {
        selection_id: answer.selection_id,
        ..outcome("scout", "alpha_search", true, 9.0)
    };
    assert_eq!(house.record(vec![call]).await.unwrap(), 1);
    until(async || {
        let pool = house.database.pool().unwrap();
        let asked = "SELECT coalesce(sum(executions), 0)::bigint FROM selector.record";
        sqlx::query_scalar::<_, i64>(asked).fetch_one(pool).await.unwrap() == 1
    })
    .await;
    assert!(kept(&house, "selection").await.is_empty());
}

#[tokio::test]
async fn what_an_erasure_needs_is_named_and_agents_may_not_ask_for_one() {
    let house = House::new().await;
    let good = of_ada(Utc::now());
    let bad = [
        (EraseUserRequest { team_id: String::new(), ..good.clone() }, "team_id"),
        (EraseUserRequest { user: String::new(), ..good.clone() }, "user"),
        (EraseUserRequest { user: "x".repeat(1_001), ..good.clone() }, "user"),
        (EraseUserRequest { end_time: None, ..good.clone() }, "end_time"),
        (EraseUserRequest { erasure_id: String::new(), ..good.clone() }, "erasure_id"),
        (EraseUserRequest { erasure_id: "7".into(), ..good.clone() }, "erasure_id"),
    ];
    for (request, field) in bad {
        let status = erase(&house, request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{field}: {status:?}");
        assert!(status.message().contains(field), "{status:?}");
    }
    let status = house.client().erase_user(house.by("team", "boss", Role::Admin, good)).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    assert_ne!(reason_of(&status), Some(ErrorReason::Unspecified));
}

#[tokio::test]
async fn erasures_are_remembered_for_ninety_days() {
    let house = House::new().await;
    erase(&house, of_ada(Utc::now())).await.unwrap();
    let pool = house.database.pool().unwrap();
    let count = async || {
        sqlx::query_scalar::<_, i64>("SELECT count(*) FROM selector.erasure").fetch_one(pool).await.unwrap()
    };
    for (days, left) in [(89, 1), (91, 0)] {
        sqlx::query("UPDATE selector.erasure SET create_time = now() - make_interval(days => $1)")
            .bind(days)
            .execute(pool)
            .await
            .unwrap();
        store::rows_delete_expired(pool).await.unwrap();
        assert_eq!(count().await, left, "after {days} days");
    }
}
