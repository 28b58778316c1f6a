//! Answers to nearly the same text: learned on the tool's own calls, served, and switched off when they go wrong.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use proto::{
    executor::v1::{Execution, Source},
    registry::v1::{CacheSettings, SemanticMatch},
};

use super::{
    cache::{call, house, keeping, read_only, stats},
    house::{House, posting, request, until},
    upstream::{Upstream, json},
};

/// The same question, each time in another spelling.
struct Asker(AtomicUsize);

impl Asker {
    async fn ask(&self, house: &House) -> Execution {
        let spaces = " ".repeat(self.0.fetch_add(1, Ordering::SeqCst) + 1);
        call(house, request("tool", &format!(r#"{{"q":"weather in{spaces}Paris"}}"#))).await
    }
}

#[tokio::test]
async fn nearly_the_same_text_is_answered_once_that_is_shown_to_be_right_and_no_longer_when_it_is_not() {
    let house = house().await;
    let changes = Arc::new(AtomicUsize::new(0));
    let world = Arc::clone(&changes);
    let upstream = Upstream::new(move |_| {
        let state = world.load(Ordering::SeqCst);
        // Once it has begun to change, no two answers are alike.
        let said = if state == 0 { 0 } else { world.fetch_add(1, Ordering::SeqCst) };
        async move { json(200, &format!(r#"{{"said":{said}}}"#)) }
    })
    .await;
    let semantic = SemanticMatch { field: "q".into(), min_similarity: 0.8, max_error: 0.3, shadow_rate: 0.5 };
    let settings = keeping(CacheSettings { semantic: Some(semantic), ..CacheSettings::default() });
    house.add_with(read_only(posting("tool", &upstream.url)), settings);
    let asker = Asker(AtomicUsize::new(0));
    let state = async || stats(&house, "tool").await.semantic_state;

    until(async || {
        let before = state().await;
        let answer = asker.ask(&house).await;
        assert!(before == "serving" || answer.source() == Source::Unspecified, "served while {before}");
        before == "serving"
    })
    .await;
    assert!(upstream.hits() >= 8, "too few comparisons: {}", upstream.hits());
    until(async || asker.ask(&house).await.source() == Source::SemanticCache).await;
    let told = stats(&house, "tool").await;
    assert!(told.semantic_hits >= 1 && told.hit_ratio > 0.0 && told.hit_ratio < 1.0, "{told:?}");

    changes.store(1, Ordering::SeqCst);
    until(async || {
        asker.ask(&house).await;
        state().await == "switched off"
    })
    .await;
    for _ in 0..5 {
        assert_eq!(asker.ask(&house).await.source(), Source::Unspecified);
    }
}
