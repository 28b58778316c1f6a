//! Streams whose caller is revoked, changed or not known of for a while: which go on, and how the others end.

use proto::{
    permissions::v1::Scope,
    registry::v1::{WatchToolsRequest, WatchToolsResponse},
};
use tokio::time::Instant;
use tonic::Streaming;

use super::*;

type Watched = Streaming<WatchToolsResponse>;

async fn watch(house: &House, key: &str) -> Watched {
    let mut request = tonic::Request::new(WatchToolsRequest::default());
    request.metadata_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
    let answer = RegistryServiceClient::new(house.edge.clone()).watch_tools(request).await;
    let mut watched = answer.unwrap().into_inner();
    assert!(watched.message().await.unwrap().is_some(), "it begins");
    watched
}

/// How the stream ends, and after how long.
async fn ended(mut watched: Watched) -> (Status, Duration) {
    let began = Instant::now();
    let end = tokio::time::timeout(Duration::from_mins(2), watched.message()).await.expect("it ends");
    (end.expect_err("nothing more is told"), began.elapsed())
}

/// Whether the stream goes on for so long.
async fn goes_on(watched: &mut Watched, time: Duration) -> bool {
    tokio::time::timeout(time, watched.message()).await.is_err()
}

#[tokio::test(start_paused = true)]
async fn a_revoked_key_ends_its_streams_with_the_words_of_its_refusal_and_no_others() {
    let house = House::new(0, 0, Limiter::memory());
    let (revoked, mut other) = (watch(&house, "team.key").await, watch(&house, "team.other").await);
    assert_eq!(house.state.streams(), 2);
    house.state.revoked.lock().unwrap().push("team.key".to_owned());
    let (end, after) = ended(revoked).await;
    assert!(after <= Duration::from_secs(1), "{after:?}");
    let refused = house.call("team.key").await.unwrap_err();
    assert_eq!((end.code(), end.message()), (Code::Unauthenticated, refused.message()));
    assert_eq!(rpc::reason_of(&end), rpc::reason_of(&refused));
    assert!(goes_on(&mut other, Duration::from_mins(2)).await);
    assert_eq!(house.state.streams(), 1, "the service hears of it");
    drop(other);
    assert_eq!(house.state.streams(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_nobody_reads_ends_as_well() {
    let house = House::new(0, 0, Limiter::memory());
    let unread = watch(&house, "team.key").await;
    house.state.revoked.lock().unwrap().push("team.key".to_owned());
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(house.state.streams(), 0);
    assert_eq!(ended(unread).await.0.code(), Code::Unauthenticated);
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_may_less_is_denied_and_one_who_is_another_begins_anew() {
    let house = House::new(0, 0, Limiter::memory());
    let stream = watch(&house, "team.key").await;
    *house.state.scopes.lock().unwrap() = vec![Scope::ToolsCall.into()];
    let (end, after) = ended(stream).await;
    assert_eq!(
        (end.code(), rpc::reason_of(&end)),
        (Code::PermissionDenied, Some(ErrorReason::ScopeRequired))
    );
    assert!(end.message().contains("tools_read") && after <= Duration::from_secs(1), "{end:?}");
    house.state.scopes.lock().unwrap().clear();
    let stream = watch(&house, "team.new").await;
    *house.state.role.lock().unwrap() = Role::Operator;
    let (end, _) = ended(stream).await;
    assert_eq!(
        (end.code(), rpc::reason_of(&end)),
        (Code::Unavailable, Some(ErrorReason::ServiceUnavailable))
    );
    assert!(end.message().contains("watch again"), "{end:?}");
}

#[tokio::test(start_paused = true)]
async fn a_thousand_streams_of_a_key_cost_one_question_a_second() {
    let config = Config { max_concurrent_requests: 4_096, ..config(0, 0) };
    let house = House::with(&config, Limiter::memory());
    let mut streams = Vec::new();
    for _ in 0..1_000 {
        streams.push(watch(&house, "team.key").await);
    }
    let before = house.asked();
    tokio::time::sleep(Duration::from_secs(9)).await;
    let asked = house.asked() - before;
    assert!((9..=11).contains(&asked), "{asked}");
    assert_eq!(house.state.streams(), 1_000);
}

#[tokio::test(start_paused = true)]
async fn streams_outlive_a_short_outage_of_permissions_and_no_long_one() {
    let house = House::new(0, 0, Limiter::memory());
    let mut stream = watch(&house, "team.key").await;
    house.state.is_away.store(true, Ordering::Relaxed);
    assert!(goes_on(&mut stream, Duration::from_secs(25)).await);
    house.state.is_away.store(false, Ordering::Relaxed);
    assert!(goes_on(&mut stream, Duration::from_mins(1)).await);
    house.state.is_away.store(true, Ordering::Relaxed);
    let (end, after) = ended(stream).await;
    assert_eq!(
        (end.code(), rpc::reason_of(&end)),
        (Code::Unavailable, Some(ErrorReason::ServiceUnavailable))
    );
    let (least, most) = (Duration::from_secs(29), Duration::from_secs(33));
    assert!((least..most).contains(&after) && end.message().contains("30 s"), "{after:?} {end:?}");
}
