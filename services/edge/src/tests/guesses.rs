//! Many questions at once about keys: who waits for whom.

use super::*;

/// Lets everything run that can.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

fn spawn(house: &Arc<House>, address: String, key: String) -> tokio::task::JoinHandle<Result<(), Status>> {
    let house = Arc::clone(house);
    tokio::spawn(async move { house.call_from(Some(&address), &key).await.map(|_| ()) })
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_guesses_delays_no_key_that_is_known_and_one_address_no_other() {
    let config = Config { unauthenticated_per_minute: 1_000, ..config(0, 0) };
    let house = Arc::new(House::with(&config, Limiter::memory()));
    house.call_from(Some("192.0.2.1"), "team.known").await.unwrap();
    let flood = |address: &str, count: usize| {
        let key = |number| format!("stuck-{address}-{number}");
        (0..count).map(|number| spawn(&house, address.to_owned(), key(number))).collect::<Vec<_>>()
    };
    let stuck = || house.state.stuck.load(Ordering::Relaxed);
    let guesses = flood("192.0.2.1", 20);
    settle().await;
    assert_eq!(stuck(), 4, "one address asks about so many at once");
    // A new key from elsewhere is asked for at once.
    house.call_from(Some("192.0.2.2"), "team.new").await.unwrap();
    let more: Vec<_> = ["192.0.2.3", "192.0.2.4", "192.0.2.5", "192.0.2.6"]
        .iter()
        .flat_map(|address| flood(address, 7))
        .collect();
    settle().await;
    assert_eq!(stuck(), 16, "all addresses together ask about so many at once");
    // One that is known is asked for again as if nobody else asked.
    tokio::time::advance(Duration::from_millis(950)).await;
    let asked = house.asked();
    let known = house.call_from(Some("192.0.2.1"), "team.known");
    tokio::time::timeout(Duration::from_millis(1), known).await.expect("at once").unwrap();
    assert_eq!(house.asked(), asked + 1);
    let refusal = house.call_from(Some("192.0.2.7"), "team.newer").await.unwrap_err();
    let told = (refusal.code(), rpc::reason_of(&refusal));
    assert_eq!(told, (Code::ResourceExhausted, Some(ErrorReason::Overloaded)), "{refusal:?}");
    assert!(refusal.get_error_details().retry_info().unwrap().retry_delay.is_some(), "{refusal:?}");
    for guess in guesses.into_iter().chain(more) {
        guess.abort();
        let _ = guess.await;
    }
    house.call_from(Some("192.0.2.7"), "team.newer").await.unwrap();
}

#[tokio::test]
async fn what_many_ask_at_once_is_asked_once_and_whoever_gives_up_takes_nothing_along() {
    let house = Arc::new(House::new(0, 0, Limiter::memory()));
    let calls: Vec<_> =
        (0..20).map(|_| spawn(&house, "192.0.2.1".to_owned(), "team.held".to_owned())).collect();
    settle().await;
    assert_eq!(house.asked(), 1);
    let mut calls = calls.into_iter();
    let first = calls.next().unwrap();
    first.abort();
    let _ = first.await;
    settle().await;
    assert_eq!(house.asked(), 2, "another asks in its place");
    house.go.notify_one();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert_eq!((house.asked(), house.calls()), (2, 19));
}

#[tokio::test(start_paused = true)]
async fn whoever_comes_late_to_a_slow_question_asks_again() {
    let house = Arc::new(House::new(0, 0, Limiter::memory()));
    let first = spawn(&house, "192.0.2.1".to_owned(), "team.held".to_owned());
    settle().await;
    tokio::time::advance(Duration::from_secs(1)).await;
    let late = spawn(&house, "192.0.2.1".to_owned(), "team.held".to_owned());
    settle().await;
    house.go.notify_one();
    settle().await;
    first.await.unwrap().unwrap();
    assert_eq!(house.asked(), 2);
    house.state.revoked.lock().unwrap().push("team.held".to_owned());
    house.go.notify_one();
    // The second question was under way when the key was revoked.
    late.await.unwrap().unwrap();
    tokio::time::advance(Duration::from_secs(1)).await;
    let refused = house.call_from(Some("192.0.2.1"), "team.held").await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
}

#[tokio::test]
async fn a_key_that_is_held_to_what_is_not_known_here_is_not_taken_for_one_that_is_held_to_nothing() {
    let house = House::new(0, 0, Limiter::memory());
    *house.state.scopes.lock().unwrap() = vec![9_999];
    let refusal = house.call("team.newer").await.unwrap_err();
    let told = (refusal.code(), rpc::reason_of(&refusal));
    assert_eq!(told, (Code::Unavailable, Some(ErrorReason::ServiceUnavailable)), "{refusal:?}");
    *house.state.scopes.lock().unwrap() = vec![9_999, proto::permissions::v1::Scope::ToolsRead.into()];
    house.call("team.newer").await.unwrap();
    assert_eq!(house.calls(), 1);
}
