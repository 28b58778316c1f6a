//! The log of selections through the whole service: what is kept, what is not, and who may read it.

use std::time::Duration;

use chrono::Utc;
use proto::selector::v1::{
    ListSelectionsRequest, ListSelectionsResponse, Outcome, RecordFeedbackRequest, SelectToolsRequest,
};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};
use types::Role;

use super::{
    house::{House, outcome, task, until},
    searchers,
};
use crate::{select, selections, store::SelectionRow, wanted::Wanted};

async fn list(
    house: &House,
    (agent, role): (&str, Role),
    request: ListSelectionsRequest,
) -> Result<ListSelectionsResponse, Status> {
    let request = house.by("team", agent, role, request);
    house.client().list_selections(request).await.map(tonic::Response::into_inner)
}

/// Waits until this many selections are written.
async fn written(house: &House, count: i64) {
    let pool = house.database.pool().unwrap();
    let count_them = || sqlx::query_scalar::<_, i64>("SELECT count(*) FROM selector.selection");
    until(async || count_them().fetch_one(pool).await.unwrap() == count).await;
}

#[tokio::test]
async fn a_selection_is_kept_without_its_task() {
    let house = searchers().await;
    let request = SelectToolsRequest {
        task_id: "t-1".into(),
        alternatives: Some(1),
        ..task("search for my diagnosis")
    };
    let answer = house.select(request).await.unwrap();
    house.stop().await;
    let row: String =
        sqlx::query_scalar("SELECT row_to_json(s)::text FROM selector.selection s WHERE team_id = 'team'")
            .fetch_one(house.database.pool().unwrap())
            .await
            .unwrap();
    let row: serde_json::Value = serde_json::from_str(&row).unwrap();
    assert_eq!(row["id"], answer.selection_id);
    assert_eq!(row["task_digest"], types::digest_bytes(b"search for my diagnosis"));
    assert_eq!((&row["task_length"], &row["candidate_count"]), (&23.into(), &3.into()));
    assert_eq!((&row["agent_id"], &row["task_id"]), (&"scout".into(), &"t-1".into()));
    assert_eq!(row["ranked"].as_array().unwrap().len(), 2);
    assert_eq!(row["ranked"][0]["name"], answer.primary.unwrap().name);
    assert!(!row.to_string().contains("diagnosis"), "{row}");
}

#[tokio::test]
async fn selections_that_wait_when_the_service_stops_are_written() {
    let database = testkit::database(&[crate::schema()]).await;
    let (selections, waiting) = selections::Selections::new();
    for _ in 0..300 {
        let selection = select::Selection { id: types::new_id(), ..select::Selection::default() };
        let caller = types::Caller { team: "team".into(), ..types::Caller::service("") };
        selections.keep(SelectionRow::new(&caller, &Wanted::default(), &selection, Utc::now()));
    }
    assert_eq!(selections.waiting(), 300);
    let stop = CancellationToken::new();
    stop.cancel();
    selections::write(database.clone(), waiting, Duration::from_secs(10), stop).await;
    let written: i64 = sqlx::query_scalar("SELECT count(*) FROM selector.selection")
        .fetch_one(database.pool().unwrap())
        .await
        .unwrap();
    assert_eq!((written, selections.lost(), selections.waiting()), (300, 0, 0));
    selections.keep(SelectionRow::new(
        &types::Caller::service(""),
        &Wanted::default(),
        &select::Selection::default(),
        Utc::now(),
    ));
    assert_eq!(selections.lost(), 1, "no one writes any more");
}

#[tokio::test]
async fn what_followed_and_what_was_said_of_it_is_listed_with_the_offer() {
    let house = searchers().await;
    let request = SelectToolsRequest { task_id: "t-1".into(), ..task("search the web for whales") };
    let answer = house.select(request).await.unwrap();
    written(&house, 1).await;
    let called =
        Outcome { selection_id: answer.selection_id.clone(), ..outcome("scout", "beta_search", false, 9.0) };
    house.record(vec![called]).await.unwrap();
    let said = RecordFeedbackRequest {
        selection_id: answer.selection_id.clone(),
        quality: Some(0.25),
        ..RecordFeedbackRequest::default()
    };
    house.client().record_feedback(house.by("team", "scout", Role::Agent, said)).await.unwrap();
    let listed = list(&house, ("scout", Role::Agent), ListSelectionsRequest::default()).await.unwrap();
    let [logged] = listed.selections.as_slice() else { panic!("{listed:?}") };
    assert_eq!((&logged.selection_id, logged.task_id.as_str()), (&answer.selection_id, "t-1"));
    assert_eq!(
        (logged.followed_tool.as_str(), logged.followed_rank, logged.succeeded),
        ("beta_search", 2, Some(false))
    );
    assert_eq!((logged.feedback.len(), logged.feedback[0].quality), (1, Some(0.25)));
    let offered: Vec<&str> = logged.offered.iter().map(|tool| tool.name.as_str()).collect();
    assert_eq!(offered, ["alpha_search", "beta_search", "painter"]);
    let (then, now) = (&logged.offered[0], answer.primary.as_ref().unwrap());
    assert!((then.combined_score - now.combined_score).abs() < 1e-9 && !then.signals.is_empty());
    assert!(
        (logged.confidence - answer.confidence).abs() < 1e-9 && logged.task_category == answer.task_category
    );
}

#[tokio::test]
async fn an_agent_lists_its_own_an_auditor_all_page_by_page_and_by_filter() {
    let house = searchers().await;
    for (agent, count) in [("scout", 3), ("other", 2)] {
        for _ in 0..count {
            house.select_as("team", agent, task("search")).await.unwrap();
        }
    }
    house.select_as("theirs", "scout", task("search")).await.unwrap();
    written(&house, 6).await;
    let any = ListSelectionsRequest::default;
    let own = list(&house, ("scout", Role::Agent), any()).await.unwrap().selections;
    assert!(own.len() == 3 && own.iter().all(|logged| logged.agent_id == "scout"), "{own:?}");
    let others = ListSelectionsRequest { agent_id: "other".into(), ..any() };
    let refusal = list(&house, ("scout", Role::Agent), others.clone()).await.unwrap_err();
    assert_eq!(refusal.code(), Code::InvalidArgument);
    assert_eq!(list(&house, ("eye", Role::Auditor), others).await.unwrap().selections.len(), 2);
    let (mut seen, mut page_token) = (Vec::new(), String::new());
    loop {
        let page = ListSelectionsRequest { page_size: 2, page_token, ..any() };
        let page = list(&house, ("eye", Role::Auditor), page).await.unwrap();
        seen.extend(page.selections.into_iter().map(|logged| logged.selection_id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(seen.len(), 5);
    assert!(seen.is_sorted_by(|newer, older| newer > older), "newest first, each once: {seen:?}");
    let forged = ListSelectionsRequest { page_token: "AAAA".into(), ..any() };
    assert_eq!(list(&house, ("eye", Role::Auditor), forged).await.unwrap_err().code(), Code::InvalidArgument);
    let of_tool = |name: &str| ListSelectionsRequest { tool_name: name.into(), ..any() };
    assert_eq!(list(&house, ("eye", Role::Auditor), of_tool("painter")).await.unwrap().selections.len(), 5);
    assert!(list(&house, ("eye", Role::Auditor), of_tool("nothing")).await.unwrap().selections.is_empty());
    let followed = ListSelectionsRequest { followed: Some(true), ..any() };
    assert!(list(&house, ("eye", Role::Auditor), followed).await.unwrap().selections.is_empty());
}

#[tokio::test]
async fn a_page_with_long_feedback_is_no_longer_than_a_message() {
    let house = House::new().await;
    let pool = house.database.pool().unwrap();
    sqlx::query(
        "WITH made AS (
             INSERT INTO selector.selection (
                 team_id, id, agent_id, task_id, task_digest, task_length, candidate_count, ranked, create_time)
             SELECT 'team', gen_random_uuid(), 'scout', '', '', 0, 0, '[]', now() - n * interval '1 second'
             FROM generate_series(1, 1000) AS n
             RETURNING id
         )
         INSERT INTO selector.feedback (
             team_id, id, selection_id, tool_name, agent_id, by_person, request_id, comment, create_time, update_time)
         SELECT 'team', gen_random_uuid(), id, tool, 'scout', true, '', repeat('x', 4096), now(), now()
         FROM made, unnest(ARRAY['a', 'b']) AS tool",
    )
    .execute(pool)
    .await
    .unwrap();
    let (mut seen, mut pages, mut page_token) = (0, 0, String::new());
    loop {
        let page = ListSelectionsRequest { page_size: 1_000, page_token, ..ListSelectionsRequest::default() };
        let page = list(&house, ("eye", Role::Auditor), page).await.unwrap();
        let feedback = page.selections.iter().flat_map(|logged| &logged.feedback);
        let bytes: usize = feedback.map(|said| said.comment.len()).sum();
        assert!(bytes < 4 * 1024 * 1024, "{bytes}");
        (seen, pages, page_token) = (seen + page.selections.len(), pages + 1, page.next_page_token);
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!((seen, pages > 1), (1_000, true));
}
