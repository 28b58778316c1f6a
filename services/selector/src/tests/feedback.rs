//! Feedback that is given again, replaced, or outlived: what is left of it, and what is not.

use ::rpc::{ErrorReason, reason_of};
use proto::{registry::v1::ToolDefinition, selector::v1::RecordFeedbackRequest, types::v1::Category};
use types::Role;
use uuid::Uuid;

use super::{
    house::{House, tool},
    learning::{SCOUT, effectiveness, feedback, following, house, number, rating, selection},
};

fn named(request: RecordFeedbackRequest) -> RecordFeedbackRequest {
    RecordFeedbackRequest { request_id: Uuid::new_v4().to_string(), ..request }
}

#[tokio::test]
async fn a_late_repetition_of_a_request_does_not_undo_what_was_said_after_it() {
    let house = house().await;
    let id = selection(&house, "team", "scout", "web_search").await;
    let (first, second) = (named(rating(id, 0.2)), named(rating(id, 0.9)));
    let given = feedback(&house, SCOUT, first.clone()).await.unwrap();
    assert!(feedback(&house, SCOUT, second.clone()).await.unwrap().replaced);
    assert_eq!(feedback(&house, SCOUT, first.clone()).await.unwrap(), given, "the same once more");
    let quality = async || effectiveness(&house, "alpha_search").await.quality.unwrap();
    assert!((quality().await - 0.9).abs() < 1e-3, "{}", quality().await);
    assert_eq!(number(&house, "SELECT count(*) FROM selector.feedback").await, 1);
    for other in [
        RecordFeedbackRequest { quality: Some(0.3), ..first.clone() },
        RecordFeedbackRequest { tool_name: "beta_search".into(), ..first.clone() },
        RecordFeedbackRequest { comment: "not said before".into(), ..second },
        RecordFeedbackRequest {
            selection_id: selection(&house, "team", "scout", "").await.to_string(),
            ..first
        },
    ] {
        let refusal = feedback(&house, SCOUT, other.clone()).await.unwrap_err();
        assert_eq!(reason_of(&refusal), Some(ErrorReason::RequestIdReused), "{other:?}");
    }
    // Of one feedback, so many requests are known and no more.
    for _ in 0..20 {
        feedback(&house, SCOUT, named(rating(id, 0.5))).await.unwrap();
    }
    let known = "SELECT max(jsonb_array_length(requests))::bigint FROM selector.feedback";
    assert_eq!(number(&house, known).await, 16);
}

#[tokio::test]
async fn a_request_that_named_no_tool_is_the_same_after_another_was_called() {
    let house = house().await;
    let id = selection(&house, "team", "scout", "web_search").await;
    let request = named(rating(id, 0.2));
    let given = feedback(&house, SCOUT, request.clone()).await.unwrap();
    house.record(vec![following(id, "scout", "beta_search", true)]).await.unwrap();
    assert_eq!(feedback(&house, SCOUT, request).await.unwrap(), given);
    assert_eq!(effectiveness(&house, "beta_search").await.feedbacks, 0, "it was said of the first");
}

async fn records(house: &House) -> Vec<(String, i64, f64)> {
    sqlx::query_as("SELECT category, feedbacks, quality_weight FROM selector.record ORDER BY category")
        .fetch_all(house.database.pool().unwrap())
        .await
        .unwrap()
}

#[tokio::test]
async fn quality_is_taken_out_of_the_kind_of_work_that_it_was_put_into() {
    let house = house().await;
    let id = selection(&house, "team", "scout", "").await;
    feedback(&house, SCOUT, rating(id, 1.0)).await.unwrap();
    assert_eq!(records(&house).await, [("web_search".to_owned(), 1, 1.0)]);
    let searcher = tool("alpha_search", "Searches files.", &["search"]);
    house.add(ToolDefinition { category: Category::FileIo.into(), ..searcher });
    assert!(feedback(&house, SCOUT, rating(id, 0.0)).await.unwrap().replaced);
    let kept = records(&house).await;
    let [(files, one, weight), (web, none, rest)] = &kept[..] else { panic!("{kept:?}") };
    assert_eq!((files.as_str(), *one, *weight, web.as_str(), *none), ("file_io", 1, 1.0, "web_search", 0));
    assert!(*rest < 1e-6, "{kept:?}");
}

#[tokio::test]
async fn feedback_goes_with_its_selection_and_never_stays_without_one() {
    let house = house().await;
    let (old, young) =
        (selection(&house, "team", "scout", "").await, selection(&house, "team", "scout", "").await);
    let operator = ("team", "boss", Role::Operator);
    for id in [old, young] {
        feedback(&house, SCOUT, rating(id, 1.0)).await.unwrap();
        feedback(&house, operator, rating(id, 1.0)).await.unwrap();
    }
    let pool = house.database.pool().unwrap();
    let age = "UPDATE selector.selection SET create_time = now() - interval '31 days' WHERE id = $1";
    sqlx::query(age).bind(old).execute(pool).await.unwrap();
    crate::store::selections_delete_expired(pool).await.unwrap();
    let left = "SELECT count(*) FROM selector.feedback";
    assert_eq!(number(&house, left).await, 2, "in the same statement");
    // Given while its selection went.
    sqlx::query("UPDATE selector.feedback SET selection_id = $1 WHERE agent_id = 'boss'")
        .bind(old)
        .execute(pool)
        .await
        .unwrap();
    crate::store::rows_delete_expired(pool).await.unwrap();
    assert_eq!(number(&house, left).await, 1);
}
