//! What is over ends once, and is deleted long after that.

use super::*;

#[tokio::test]
async fn what_is_over_ends_once_whoever_looks() {
    let place = Place::new().await;
    let waiting = place.ask(&scout(), wanted(&json!({}))).await.unwrap();
    let approved = place.approved(&json!({"n": 1}), wire::ApprovalScope::Tool).await;
    let before = place.events().await;
    let (late, another) = (noon() + TimeDelta::days(1), Teams::new(&place.database));
    let sweeps = [&*place.desk.teams, &another].into_iter().map(|teams| sweep(&place.database, teams, late));
    let ended: usize = futures(sweeps).await.into_iter().map(Result::unwrap).sum();
    assert_eq!((ended, place.events().await), (2, before + 2));
    assert_eq!(sweep(&place.database, &another, late).await.unwrap(), 0);
    for id in [waiting.request_id, approved.request_id] {
        assert_eq!(place.get(&root(), id, noon()).await.unwrap().state, "expired");
    }
}

#[tokio::test]
async fn what_ended_long_ago_is_deleted_and_what_is_open_or_in_force_is_not() {
    let place = Place::new().await;
    let (days, retention) = (TimeDelta::days, TimeDelta::days(400));
    let denied = place.ask(&scout(), wanted(&json!({"n": 1}))).await.unwrap();
    place.decide(&root(), denial(&denied)).await.unwrap();
    let used = place.approved(&json!({"n": 2}), wire::ApprovalScope::Once).await;
    let served = place.desk.authorize(&call(&json!({"n": 2})), noon()).await.unwrap();
    settle(&place.database, "t", served.id, true).await.unwrap();
    let revoked = place.approved(&json!({"n": 3}), wire::ApprovalScope::Tool).await;
    place.revoke(&root(), revoked.request_id, "a mistake").await.unwrap();
    let longest = NewAccessRequest { ttl_s: 604_800, ..wanted(&json!({"n": 4})) };
    let undecided = place.ask(&scout(), longest).await.unwrap();
    sweep(&place.database, &place.desk.teams, noon()).await.unwrap();
    let left = "SELECT count(*) FROM permissions.access_request";
    let tallies = "SELECT count(*) FROM permissions.tally";
    assert_eq!((place.number(left).await, place.number(tallies).await), (4, 1));
    let gone = async |now: DateTime<Utc>| purge(&place.database, retention, now).await.unwrap().0;
    // An approval would have ended after an hour, a request after a day.
    assert_eq!(gone(noon() + retention + hour()).await, 0);
    assert_eq!(gone(noon() + retention + hour() + TimeDelta::seconds(1)).await, 2);
    for row in [&used, &revoked] {
        let there = place.get(&root(), row.request_id, noon()).await;
        assert_eq!(refusal(there), (Kind::NotFound, ErrorReason::NotFound));
    }
    assert_eq!(place.number(tallies).await, 0, "nor is its use counted any more");
    assert_eq!(gone(noon() + retention + days(2)).await, 1);
    // Nobody wrote yet that this one has ended.
    assert_eq!(gone(noon() + retention + days(9)).await, 0);
    sweep(&place.database, &place.desk.teams, noon() + days(7)).await.unwrap();
    assert_eq!(gone(noon() + retention + days(9)).await, 1);
    assert_eq!((place.number(left).await, undecided.state.as_str()), (0, "pending"));
}

#[tokio::test]
async fn many_are_deleted_in_batches_by_one_process_at_a_time() {
    let place = Place::new().await;
    sqlx::raw_sql(
        "INSERT INTO permissions.access_request (
             team_id, request_id, agent_id, end_user, tool_name, tool_digest, arguments_digest, arguments_json,
             justification, approver_role, is_grant, state, create_time, expire_time)
         SELECT 't', gen_random_uuid(), 'scout', '', 'x', 'd', n::text, '{}', '', 'admin', false,
                CASE WHEN n > 2500 THEN 'pending' ELSE 'expired' END, now(), '2020-01-01'
         FROM generate_series(1, 2600) n;
         INSERT INTO permissions.webhook (team_id, name, url, secret, create_time)
         VALUES ('t', 'ops', 'https://hooks.example.com/', '', now());
         INSERT INTO permissions.delivery (team_id, delivery_id, webhook, body, due_time, create_time)
         SELECT 't', gen_random_uuid(), 'ops', '', 'infinity',
                timestamptz '2026-11-22T12:30:00Z' - CASE WHEN n > 1500 THEN 29 ELSE 31 END * interval '1 day'
         FROM generate_series(1, 1600) n",
    )
    .execute(place.database.pool().unwrap())
    .await
    .unwrap();
    let purges = (0..3).map(|_| purge(&place.database, TimeDelta::days(400), noon()));
    let gone: Vec<(u64, u64)> = futures(purges).await.into_iter().map(Result::unwrap).collect();
    let again = purge(&place.database, TimeDelta::days(400), noon()).await.unwrap();
    let all = gone.iter().chain([&again]).fold((0, 0), |all, each| (all.0 + each.0, all.1 + each.1));
    assert_eq!(all, (2_500, 1_500), "{gone:?} {again:?}");
    assert_eq!(place.number("SELECT count(*) FROM permissions.access_request").await, 100);
    assert_eq!(place.number("SELECT count(*) FROM permissions.delivery").await, 100);
    assert_eq!(place.number("SELECT given_up FROM permissions.webhook").await, 1_500);
}
