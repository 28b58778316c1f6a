//! Weights through the whole service: fitted, judged, activated, reverted, and told to other replicas.

use ::rpc::{ErrorReason, reason_of};
use proto::selector::v1::{
    ActivatePolicyRequest, ListPoliciesRequest, Policy, RefitPolicyRequest, policy::State,
};
use tonic::{Code, Status};

use super::house::{House, task, tool};

/// A log of so many selections of two tools, of which either came first as likely; the better one is the better `quality`
/// of its record, if `tells`, and chance otherwise.
async fn log(house: &House, team: &str, count: i32, tells: bool) {
    sqlx::query(
        "INSERT INTO selector.selection (
             team_id, id, agent_id, task_id, task_digest, task_length, candidate_count, ranked, create_time,
             propensity, followed_tool, execution_id, succeeded, follow_time)
         SELECT $1, gen_random_uuid(), 'agent-' || n % 3, '', '', 0, 2,
             jsonb_build_array(
                 jsonb_build_object('name', 'a', 'semantic', x, 'success', y, 'quality', q),
                 jsonb_build_object('name', 'b', 'semantic', 1 - x, 'success', 1 - y, 'quality', 1 - q)),
             now() - n * interval '1 minute', 0.5, 'a', gen_random_uuid(),
             (CASE WHEN $3 THEN q ELSE 0.5 END) > luck, now() - n * interval '1 minute'
         FROM (SELECT n, (n * 37 % 100) / 100.0 AS q, (n * 53 % 89) / 89.0 AS x, (n * 71 % 83) / 83.0 AS y,
                   (n * 61 % 97) / 97.0 AS luck
               FROM generate_series(1, $2) AS n) AS drawn",
    )
    .bind(team)
    .bind(count)
    .bind(tells)
    .execute(house.database.pool().unwrap())
    .await
    .unwrap();
}

async fn refit(house: &House, team: &str, activate: bool) -> Result<Policy, Status> {
    let request = house.by_operator(team, RefitPolicyRequest { activate });
    house.client().refit_policy(request).await.map(|answer| answer.into_inner().policy.unwrap())
}

async fn activate(house: &House, team: &str, version: i32) -> Result<Policy, Status> {
    let request = house.by_operator(team, ActivatePolicyRequest { version });
    house.client().activate_policy(request).await.map(|answer| answer.into_inner().policy.unwrap())
}

async fn listed(house: &House, team: &str) -> Vec<(i32, State)> {
    let request = house.by_operator(team, ListPoliciesRequest {});
    let policies = house.client().list_policies(request).await.unwrap().into_inner().policies;
    policies.iter().map(|policy| (policy.version, policy.state())).collect()
}

/// The version that ranks in this process.
async fn ranking(house: &House) -> i32 {
    house.select(task("search the web")).await.unwrap().policy_version
}

fn refused<T: std::fmt::Debug>(answer: Result<T, Status>, code: Code, reason: ErrorReason) -> String {
    let status = answer.unwrap_err();
    assert_eq!((status.code(), reason_of(&status)), (code, Some(reason)), "{status:?}");
    status.message().to_owned()
}

#[tokio::test]
async fn weights_are_fitted_and_judged_and_rank_only_once_they_are_activated() {
    let house = House::new().await;
    house.add(tool("search", "Searches the web.", &["search"]));
    log(&house, "team", 600, true).await;
    let made = refit(&house, "team", false).await.unwrap();
    let (weights, evaluation) = (made.weights.unwrap(), made.evaluation.clone().unwrap());
    assert_eq!((made.version, made.state(), made.create_agent_id.as_str()), (1, State::Candidate, "boss"));
    assert!(weights.quality > 0.5 && weights.r#match < 0.6, "{weights:?}");
    assert_eq!((evaluation.selections, evaluation.refusal.as_str()), (600, ""));
    // The better of two succeeds in 3 of 4 cases, either of them in half.
    assert!(evaluation.reward_after > evaluation.reward_before + 0.1, "{evaluation:?}");
    assert!((evaluation.reward_after - 0.75).abs() < 0.12, "{evaluation:?}");
    assert!(evaluation.gain_low > 0.0 && evaluation.gain_low < evaluation.gain_high, "{evaluation:?}");
    assert_eq!(ranking(&house).await, 0, "not before it is activated");

    let other = House::on(house.database.clone()).await;
    other.add(tool("search", "Searches the web.", &["search"]));
    let active = activate(&house, "team", 1).await.unwrap();
    assert!(active.state() == State::Active && active.activate_time.is_some());
    assert_eq!(ranking(&house).await, 1, "here at once");
    let elsewhere = async {
        while ranking(&other).await != 1 {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), elsewhere).await.expect("other replicas follow");
    assert_eq!(listed(&house, "team").await, [(1, State::Active), (0, State::Retired)]);

    let built_in = activate(&house, "team", 0).await.unwrap();
    assert_eq!((built_in.state(), built_in.weights.unwrap().r#match), (State::Active, 0.6));
    assert_eq!(ranking(&house).await, 0);
    assert_eq!(listed(&house, "team").await, [(1, State::Retired), (0, State::Active)]);
    activate(&house, "team", 1).await.unwrap();
    let later = House::on(house.database.clone()).await;
    later.add(tool("search", "Searches the web.", &["search"]));
    assert_eq!(ranking(&later).await, 1, "a new process reads it at its start");

    log(&house, "second", 600, true).await;
    assert_eq!(refit(&house, "second", true).await.unwrap().state(), State::Active, "asked for at once");
    assert_eq!(listed(&house, "second").await, [(1, State::Active), (0, State::Retired)]);
}

#[tokio::test]
async fn the_flood_of_one_agent_leaves_room_for_the_others() {
    let house = House::new().await;
    let pool = house.database.pool().unwrap();
    log(&house, "team", 60, true).await;
    sqlx::query("UPDATE selector.selection SET create_time = create_time - interval '1 day'")
        .execute(pool)
        .await
        .unwrap();
    log(&house, "flood", 300, true).await;
    sqlx::query("UPDATE selector.selection SET team_id = 'team', agent_id = 'flood' WHERE team_id = 'flood'")
        .execute(pool)
        .await
        .unwrap();
    let samples = crate::store::policy::samples_read(pool, "team", 100).await.unwrap();
    let of = |agent: &str| samples.iter().filter(|sample| sample.agent_id == agent).count();
    assert_eq!((samples.len(), of("agent-0"), of("agent-1"), of("agent-2")), (100, 20, 20, 20));
    assert_eq!(of("flood"), 40, "the rest is its own, the newest");
    assert!(samples.is_sorted_by(|newer, older| newer.create_time >= older.create_time));
}

#[tokio::test]
async fn too_few_outcomes_noise_and_versions_that_are_not_there_are_refused_with_the_remedy() {
    let house = House::new().await;
    log(&house, "few", 99, true).await;
    let said =
        refused(refit(&house, "few", false).await, Code::FailedPrecondition, ErrorReason::TooFewOutcomes);
    assert!(said.contains("99 selections") && said.contains("100 are needed"), "{said}");
    assert_eq!(listed(&house, "few").await, [(0, State::Active)]);

    log(&house, "noise", 600, false).await;
    let made = refit(&house, "noise", true).await.unwrap();
    assert_eq!(made.state(), State::Refused, "{made:?}");
    let said =
        refused(activate(&house, "noise", 1).await, Code::FailedPrecondition, ErrorReason::WeightsRefused);
    assert!(said.contains(&made.evaluation.unwrap().refusal), "{said}");
    assert_eq!(listed(&house, "noise").await, [(1, State::Refused), (0, State::Active)]);

    let said = refused(activate(&house, "noise", 7).await, Code::NotFound, ErrorReason::NotFound);
    assert!(said.contains("version 7") && said.contains("newest is 1"), "{said}");
    refused(activate(&house, "few", 1).await, Code::NotFound, ErrorReason::NotFound);
    refused(activate(&house, "few", -1).await, Code::InvalidArgument, ErrorReason::InvalidRequest);
}
