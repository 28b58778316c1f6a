//! What is explained is what would be decided, by the same grants, limits and policies; and nothing is taken by it.

use ::rpc::ServiceError;

use super::*;
use crate::explaining::{Explained, Question, explain};

fn question(agent: &str) -> Question {
    Question {
        agent: agent.into(),
        tool: "python_sandbox".into(),
        arguments: String::new(),
        user: String::new(),
        at: None,
    }
}

async fn explained(database: &Database, desk: &Desk, question: Question) -> Result<Explained, Error> {
    let registry = (&registry::link(), &registry::outgoing());
    explain(database, desk, registry, &caller("root", Role::Admin), question, noon()).await
}

async fn given(database: &Database, grantee: Grantee, edit: impl FnOnce(&mut NewGrant)) -> ListedGrant {
    let mut new = new_grant(grantee, 0);
    edit(&mut new);
    grant_permission(database, &caller("root", Role::Admin), new, noon() - hour() * 2).await.unwrap()
}

#[tokio::test]
async fn every_grant_is_told_with_its_reasons_and_limits_and_nothing_is_taken() {
    let database = team().await;
    let limited = given(&database, to_agent("scout"), |new| {
        new.max_per_hour = 2;
        new.max_total = 9;
    })
    .await;
    let ended = given(&database, to_agent("scout"), |new| {
        new.read_only = true;
        new.expire_time = Some(noon() - hour());
    })
    .await;
    let shared =
        given(&database, to_researchers(), |new| new.max_sensitivity = Some(Sensitivity::Public)).await;
    given(&database, to_agent("second"), |_| {}).await;
    let desk = desk(&database);
    assert_eq!(reason(&database, &asked("scout"), noon()).await, None);
    for _ in 0..3 {
        let told = explained(&database, &desk, question("scout")).await.unwrap();
        assert_eq!((told.decision.reason, told.decision.grant_id), (None, Some(limited.grant.grant_id)));
        let ids: Vec<_> = told.grants.iter().map(|each| each.grant.grant.grant_id).collect();
        assert_eq!(ids, [&limited, &ended, &shared].map(|listed| listed.grant.grant_id));
        let mut reasons: Vec<Vec<_>> = told.grants.iter().map(|each| each.reasons.clone()).collect();
        for reasons in &mut reasons {
            reasons.sort_unstable();
        }
        let expected = [
            vec![],
            vec![ErrorReason::GrantExpired, ErrorReason::ReadOnlyGrant],
            vec![ErrorReason::SensitivityExceeded],
        ];
        for (told, mut expected) in reasons.iter().zip(expected) {
            expected.sort_unstable();
            assert_eq!(*told, expected);
        }
        let quotas: Vec<_> = told.grants[0].quotas.iter().map(|quota| (quota.limit, quota.used)).collect();
        assert_eq!(quotas, [(2, 1), (9, 1)], "those of the hour and in all, as they stand");
        assert_eq!(told.grants[1].policies, ["grant-expired", "read-only-grant"]);
        assert_eq!((told.agent.agent_id.as_str(), told.tool_digest.as_str()), ("scout", "d"));
    }
    assert_eq!(used(&database, &limited, noon()).await, 1, "nothing was taken");
    assert_eq!(reason(&database, &asked("scout"), noon()).await, None);
    let told = explained(&database, &desk, question("scout")).await.unwrap();
    assert_eq!(told.decision.reason, Some(ErrorReason::QuotaExhausted));
    assert_eq!(told.grants[0].reasons, [ErrorReason::QuotaExhausted]);
}

#[tokio::test]
async fn what_is_explained_is_what_is_decided() {
    let database = team().await;
    let at = |minutes: i64| noon() + TimeDelta::minutes(minutes);
    given(&database, to_agent("scout"), |new| new.expire_time = Some(at(10))).await;
    given(&database, to_researchers(), |new| new.max_per_day = 1).await;
    given(&database, to_agent("writer"), |new| new.read_only = true).await;
    let (root, teams) = (caller("root", Role::Admin), Teams::new(&database));
    crate::budget::set_budget(&database, &teams, &root, 100, noon()).await.unwrap();
    for agent in ["scout", "second", "writer", "root"] {
        for minutes in [-1, 9, 10, 11] {
            // A fresh process each, so that what one learns the other does not know.
            let (fresh, at) = (desk(&database), at(minutes));
            let told =
                explained(&database, &fresh, Question { at: Some(at), ..question(agent) }).await.unwrap();
            let decided = authorize(&database, &asked(agent), at).await.unwrap();
            let (told_by, decided_by) = (&told.decision, &decided);
            assert_eq!(told_by.reason, decided_by.reason, "{agent} {minutes}");
            assert_eq!(told_by.grant_id, decided_by.grant_id, "{agent} {minutes}");
            assert_eq!(told_by.policies, decided_by.policies, "{agent} {minutes}");
            assert_eq!(told_by.message, decided_by.message, "{agent} {minutes}");
            let budget = told.budget.unwrap();
            assert_eq!((budget.limit, budget.used), (100, 0));
        }
    }
}

#[tokio::test]
async fn who_may_not_know_is_told_what_it_takes() {
    let database = team().await;
    let desk = desk(&database);
    let registry = (&registry::link(), &registry::outgoing());
    let ask = async |who: &Caller, question: Question| {
        explain(&database, &desk, registry, who, question, noon()).await
    };
    let scout = caller("scout", Role::Agent);
    let own = ask(&scout, question("")).await.unwrap();
    assert_eq!((own.decision.reason, own.agent.agent_id.as_str()), (Some(ErrorReason::NoGrant), "scout"));
    let refused = ask(&scout, question("second")).await.unwrap_err();
    assert_eq!(refused.reason(), ErrorReason::RoleRequired);
    assert!(refused.public_message().contains("auditor"), "{refused}");
    ask(&caller("root", Role::Auditor), question("second")).await.unwrap();
    let foreign = Caller { team: "other".into(), ..caller("root", Role::Admin) };
    for (who, asked) in [
        (&scout, Question { tool: "missing_tool".into(), ..question("") }),
        (&caller("root", Role::Admin), question("nobody")),
        (&foreign, question("scout")),
    ] {
        assert_eq!(ask(who, asked.clone()).await.unwrap_err().reason(), ErrorReason::NotFound, "{asked:?}");
    }
    for (field, wrong) in [
        ("arguments_json", Question { arguments: "[]".into(), ..question("") }),
        ("arguments_json", Question { arguments: "{".into(), ..question("") }),
        ("user", Question { user: "a\nb".into(), ..question("") }),
        ("tool_name", Question { tool: "A B".into(), ..question("") }),
    ] {
        let refused = ask(&scout, wrong).await.unwrap_err();
        assert_eq!(refused.details().violations[0].field, field);
    }
}
