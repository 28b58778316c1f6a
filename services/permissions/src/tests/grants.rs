//! Agents, grants and their listing.

use ::rpc::PageKey;
use proto::permissions::v1::{AllowedHours, ArgumentCondition};
use secrecy::SecretString;

use super::*;
use crate::{list_grants::list_grants, store::GrantFilter};

async fn create_agent(
    database: &Database,
    team: &str,
    agent: (&str, &str, Role),
    now: DateTime<Utc>,
) -> Result<store::AgentRow, Error> {
    let by = Caller { team: team.into(), ..caller("root", Role::Admin) };
    crate::create_agent::create_agent(database, &Teams::new(database), &by, agent, now).await
}

async fn list(database: &Database, caller: &Caller, filter: GrantFilter) -> Vec<Uuid> {
    let pages = PageKey::new(&SecretString::from("k"));
    let (grants, _) = list_grants(database, &pages, caller, filter, (0, ""), noon()).await.unwrap();
    grants.iter().map(|listed| listed.grant.grant_id).collect()
}

#[tokio::test]
async fn a_grant_that_makes_no_sense_is_refused() {
    let database = team().await;
    let root = caller("root", Role::Admin);
    let good = new_grant(to_agent("scout"), 1);
    let past = Some(noon());
    let wrong = [
        (NewGrant { grantee: None, ..good.clone() }, "grant.grantee"),
        (
            NewGrant { grantee: Some(Grantee::Specialization(String::new())), ..good.clone() },
            "grant.specialization",
        ),
        (NewGrant { tool_name: "Not A Tool".into(), ..good.clone() }, "grant.tool_name"),
        (NewGrant { max_per_hour: -1, ..good.clone() }, "grant.max_per_hour"),
        (NewGrant { max_per_day: -1, ..good.clone() }, "grant.max_per_day"),
        (NewGrant { max_total: -1, ..good.clone() }, "grant.max_total"),
        (NewGrant { tool_name: "*.a".into(), ..good.clone() }, "grant.tool_name"),
        (NewGrant { expire_time: past, ..good.clone() }, "grant.expire_time"),
        (NewGrant { approver_role: Some(Role::Agent), ..good.clone() }, "grant.approver_role"),
        (NewGrant { note: "x".repeat(501), ..good.clone() }, "grant.note"),
        (
            NewGrant { conditions: vec![ArgumentCondition::default()], ..good.clone() },
            "grant.conditions[0].pointer",
        ),
        (NewGrant { hours: Some(AllowedHours::default()), ..good.clone() }, "grant.hours.time_zone"),
    ];
    for (new, expected) in wrong {
        match grant_permission(&database, &root, new, noon()).await {
            Err(Error::Invalid { field, .. }) => assert_eq!(field, expected),
            other => panic!("{expected}: {other:?}"),
        }
    }
    let unknown = [
        (new_grant(to_agent("nobody"), 1), "agent", "nobody"),
        (new_grant(Grantee::Specialization("Nobody".into()), 1), "specialization", "Nobody"),
        (NewGrant { tool_name: "missing".into(), ..good.clone() }, "tool", "missing"),
        (NewGrant { tool_name: "missing.*".into(), ..good.clone() }, "tool", "missing.*"),
        (NewGrant { tool_name: "les.*".into(), ..good.clone() }, "tool", "les.*"),
    ];
    for (new, expected, named) in unknown {
        match grant_permission(&database, &root, new, noon()).await {
            Err(Error::NotFound { what, name, .. }) => assert_eq!((what, name.as_str()), (expected, named)),
            other => panic!("{expected}: {other:?}"),
        }
    }
    // What the registry cannot say is not taken for granted.
    let (away, outgoing) = (::rpc::later("registry").1, registry::outgoing());
    let (teams, registry) = (Teams::new(&database), Registry { link: &away, outgoing: &outgoing });
    let refused =
        crate::grant_permission::grant_permission(&database, &teams, &registry, &root, good.clone(), noon())
            .await;
    assert!(matches!(refused, Err(Error::Peer { service: "registry", .. })), "{refused:?}");
    for pattern in ["files.*", "data.files.*", "*"] {
        let new = NewGrant { tool_name: pattern.into(), ..good.clone() };
        grant_permission(&database, &root, new, noon()).await.unwrap();
    }
    let ends_later = NewGrant { expire_time: Some(noon() + TimeDelta::microseconds(1)), ..good };
    grant_permission(&database, &root, ends_later, noon()).await.unwrap();
}

#[tokio::test]
async fn revisions_only_grow_and_a_revocation_counts_once() {
    let database = team().await;
    let first = grant(&database, to_agent("scout"), 0).await;
    let second = grant(&database, to_agent("scout"), 0).await;
    assert_eq!(second.revision, first.revision + 1);
    let id = first.grant.grant_id;
    let revoked = revoke_permission(&database, "t", id, noon()).await.unwrap();
    assert_eq!((revoked.revision, revoked.grant.revoke_time), (second.revision + 1, Some(noon())));
    let again = revoke_permission(&database, "t", id, noon() + hour()).await.unwrap();
    assert_eq!(again, revoked);
    for (team, id) in [("t", random()), ("other", id)] {
        let unknown = revoke_permission(&database, team, id, noon()).await;
        assert!(matches!(unknown, Err(Error::NotFound { .. })), "{unknown:?}");
    }
    assert_eq!(reason(&database, &asked("scout"), noon()).await, None);
    revoke_permission(&database, "t", second.grant.grant_id, noon()).await.unwrap();
    assert_eq!(reason(&database, &asked("scout"), noon()).await, Some(ErrorReason::NoGrant));
}

#[tokio::test]
async fn a_listing_is_narrowed_paged_and_tells_what_is_used() {
    let database = team().await;
    let own = grant(&database, to_agent("scout"), 5).await.grant.grant_id;
    let shared = grant(&database, to_researchers(), 5).await.grant.grant_id;
    let others = grant(&database, to_agent("writer"), 5).await.grant.grant_id;
    revoke_permission(&database, "t", others, noon()).await.unwrap();
    let root = caller("root", Role::Admin);
    let all = GrantFilter { include_revoked: true, ..GrantFilter::default() };
    assert_eq!(list(&database, &root, all.clone()).await, [others, shared, own]);
    assert_eq!(list(&database, &root, GrantFilter::default()).await, [shared, own]);
    let of_agent = GrantFilter { agent_id: Some("scout".into()), ..GrantFilter::default() };
    assert_eq!(list(&database, &root, of_agent).await, [own]);
    let of_tool = GrantFilter { tool_name: Some("none".into()), ..GrantFilter::default() };
    assert!(list(&database, &root, of_tool).await.is_empty());
    // Whoever is not an admin sees what applies to it, however it asks.
    assert_eq!(list(&database, &caller("scout", Role::Operator), all.clone()).await, [shared, own]);
    assert_eq!(list(&database, &caller("second", Role::Agent), all.clone()).await, [shared]);
    let of_writer = GrantFilter { agent_id: Some("writer".into()), ..all.clone() };
    assert!(list(&database, &caller("scout", Role::Agent), of_writer).await.is_empty());
    let stranger = Caller { team: "other".into(), ..root.clone() };
    assert!(list(&database, &stranger, all.clone()).await.is_empty());

    let made = authorize(&database, &asked("scout"), noon()).await.unwrap();
    settle(&database, "t", made.id, true).await.unwrap();
    let pages = PageKey::new(&SecretString::from("k"));
    let (mut page, mut token) = (Vec::new(), String::new());
    loop {
        let listed = list_grants(&database, &pages, &root, all.clone(), (1, &token), noon()).await;
        let (grants, next) = listed.unwrap();
        page.extend(grants.iter().map(|listed| (listed.grant.grant_id, listed.used.hour)));
        token = next;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(page, [(others, 0), (shared, 0), (own, 1)]);
}

#[tokio::test]
async fn an_agent_is_made_once_and_never_changed_by_making_it_again() {
    let database = team().await;
    let made = create_agent(&database, "t", ("new", "Analyzer", Role::Agent), noon()).await.unwrap();
    let again =
        create_agent(&database, "t", ("new", "Analyzer", Role::Agent), noon() + hour()).await.unwrap();
    assert_eq!(again, made);
    for (specialization, role) in [("Researcher", Role::Agent), ("Analyzer", Role::Admin)] {
        let other = create_agent(&database, "t", ("new", specialization, role), noon()).await;
        assert!(matches!(other, Err(Error::AgentExists { .. })), "{other:?}");
    }
    let wrong = create_agent(&database, "t", ("New Agent", "", Role::Agent), noon()).await;
    assert!(matches!(wrong, Err(Error::Invalid { .. })), "{wrong:?}");
}
