//! What is known follows the changes in any order, and is trusted no longer than it may be.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::*;
use crate::store::{Changes, GrantRow};

fn agent() -> AgentFacts {
    AgentFacts {
        team: "t".into(),
        name: "a".into(),
        specialization: "S".into(),
        role: types::Role::Agent,
        disabled: false,
    }
}

fn grant(id: u128, to_agent: bool, revoked: bool) -> GrantRow {
    grant_of("x", id, to_agent, revoked)
}

fn grant_of(tool: &str, id: u128, to_agent: bool, revoked: bool) -> GrantRow {
    let holder = (to_agent.then(|| "a".into()), (!to_agent).then(|| "S".into()));
    let plain = GrantRow::plain("t", holder, tool, ("root", DateTime::UNIX_EPOCH));
    GrantRow { grant_id: Uuid::from_u128(id), revoke_time: revoked.then(Utc::now), ..plain }
}

fn changes(revision: i64, grants: Vec<GrantRow>) -> Changes {
    Changes {
        revision,
        daily_micro_usd: revision,
        agents: vec![agent()],
        grants,
        approvals: Vec::new(),
        policies: Vec::new(),
    }
}

fn ids(index: &Index) -> Vec<u128> {
    let standing = index.standing("a", "x").unwrap();
    standing.grants.iter().map(|grant| grant.grant_id.as_u128()).collect()
}

#[test]
fn grants_come_in_their_order_and_go_when_revoked() {
    let mut index = Index::default();
    assert_eq!(index.revision(), -1);
    index.apply(changes(5, vec![grant(4, false, false), grant(3, true, false), grant(2, false, false)]));
    assert_eq!(ids(&index), [3, 2, 4]);
    index.apply(changes(6, vec![grant(1, true, false), grant(2, false, true), grant(9, true, true)]));
    assert_eq!(ids(&index), [1, 3, 4]);
    // Older news does not bring back what is gone.
    index.apply(changes(5, vec![grant(2, false, false)]));
    assert_eq!((ids(&index), index.revision()), (vec![1, 3, 4], 6));
    assert_eq!(index.standing("a", "x").unwrap().daily_micro_usd, 6);
    assert!(index.standing("a", "y").unwrap().grants.is_empty());
    assert!(index.standing("b", "x").is_none());
}

#[test]
fn an_agent_is_known_as_it_last_was() {
    let mut index = Index::default();
    index.apply(changes(1, vec![grant(1, false, false)]));
    let moved = AgentFacts { specialization: "T".into(), disabled: true, ..agent() };
    index.apply(Changes {
        revision: 2,
        daily_micro_usd: 0,
        agents: vec![moved.clone()],
        ..changes(2, Vec::new())
    });
    let standing = index.standing("a", "x").unwrap();
    assert_eq!((standing.agent, standing.grants.len()), (moved, 0));
}

#[tokio::test]
async fn what_was_not_confirmed_lately_is_not_trusted() {
    let database = Database::new(&"postgres://127.0.0.1:9/none".to_owned().into(), 1).unwrap();
    let teams = Teams::new(&database);
    assert!(!teams.is_trusted());
    teams.verified(Instant::now());
    assert!(teams.is_trusted());
    teams.verified(Instant::now().checked_sub(TRUST).unwrap());
    assert!(!teams.is_trusted());
    let refused = teams.standings("t", "a", &["x"], 0).await;
    assert!(matches!(refused, Err(Error::Store(_))), "{refused:?}");
}

#[tokio::test]
async fn every_team_that_is_asked_for_is_followed_from_then_on() {
    let database = Database::new(&"postgres://127.0.0.1:9/none".to_owned().into(), 1).unwrap();
    let teams = Teams::new(&database);
    teams.changed("t", 7);
    assert_eq!(teams.revisions(), (Vec::new(), Vec::new()));
    let team = teams.entry("t");
    assert_eq!(teams.revisions(), (vec!["t".to_owned()], vec![-1]));
    teams.changed("t", 7);
    teams.changed("t", 6);
    assert_eq!(teams.revisions(), (vec!["t".to_owned()], vec![7]));
    team.index.write().unwrap().apply(changes(6, Vec::new()));
    assert!(!team.is_current());
    team.index.write().unwrap().apply(changes(8, Vec::new()));
    assert!(team.is_current());
    assert_eq!(teams.revisions(), (vec!["t".to_owned()], vec![8]));
}

#[test]
fn a_grant_of_a_pattern_stands_among_those_of_the_tool_itself() {
    let mut index = Index::default();
    let grants = vec![
        grant_of("a.b.c", 5, true, false),
        grant_of("a.*", 4, true, false),
        grant_of("*", 6, true, false),
        grant_of("a.b.*", 3, true, false),
        grant_of("a.c.*", 2, true, false),
        grant_of("a.b", 1, true, false),
        grant_of("a.*", 0, false, false),
    ];
    index.apply(changes(1, grants));
    let of = |tool: &str| -> Vec<u128> {
        let standing = index.standing("a", tool).unwrap();
        standing.grants.iter().map(|grant| grant.grant_id.as_u128()).collect()
    };
    assert_eq!(of("a.b.c"), [3, 4, 5, 6, 0]);
    assert_eq!(of("a.b"), [1, 4, 6, 0]);
    assert_eq!(of("a"), [6]);
    assert_eq!(of("ab.c"), [6]);
}
