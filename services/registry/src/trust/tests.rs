//! Whatever a server offers, nothing serves that nobody approved where approval is wanted.

use TrustPolicy::{ApproveAll, ApproveChanges, ApproveEverything};

use super::*;
use crate::definition::tests::definition as plain;

fn mcp_tool(description: &str, url: &str) -> Definition {
    let transport = mcp::Transport::Http { url: url.into(), headers: [].into() };
    let binding = Mcp { server: "srv".into(), tool: "t".into(), transport, credentials: vec![] };
    Definition {
        description: description.into(),
        binding: Binding::Mcp(binding),
        version: "1.4.0".into(),
        ..plain()
    }
}

fn past(number: u128, version: &str, definition: &Definition, review: Option<ReviewState>) -> PastVersion {
    PastVersion {
        id: Uuid::from_u128(number),
        name: definition.name.clone(),
        version: version.into(),
        content_digest: definition.digests().unwrap().content,
        review,
        is_recent: true,
    }
}

fn known(definition: &Definition, approved: bool, pending: Option<u128>) -> KnownTool {
    KnownTool {
        name: definition.name.clone(),
        id: Uuid::from_u128(1),
        version: definition.version.clone(),
        digest: definition.digests().unwrap().published,
        content_digest: definition.digests().unwrap().content,
        server_name: Some("srv".into()),
        provider: "srv".into(),
        withdrawn: false,
        approved,
        pending_id: pending.map(Uuid::from_u128),
    }
}

fn judge(
    policy: TrustPolicy,
    tool: &KnownTool,
    stands: &Definition,
    past: &[PastVersion],
    offered: &Definition,
) -> Verdict {
    let digests = offered.digests().unwrap();
    Standing { tool, definition: stands, past }.judge(policy, offered, &digests).unwrap()
}

#[test]
fn what_a_server_changes_waits_unless_all_is_trusted() {
    let (stands, changed) = (mcp_tool("Old.", "http://a/"), mcp_tool("New.", "http://a/"));
    let tool = known(&stands, true, None);
    let history = [past(1, "1.4.0", &stands, None)];
    for policy in [ApproveAll, ApproveChanges, ApproveEverything] {
        assert_eq!(judge(policy, &tool, &stands, &history, &stands), Verdict::Stands);
        let verdict = judge(policy, &tool, &stands, &history, &changed);
        let next = Box::new(Definition { version: "1.4.1".into(), ..changed.clone() });
        let expected = match policy {
            ApproveAll => Verdict::Serves(next),
            ApproveChanges | ApproveEverything => Verdict::Held { adopted: None, changed: next, again: None },
        };
        assert_eq!(verdict, expected, "{policy:?}");
    }
}

#[test]
fn what_waits_was_rejected_or_served_before() {
    let (stands, changed) = (mcp_tool("Old.", "http://a/"), mcp_tool("New.", "http://a/"));
    let other = mcp_tool("Other.", "http://a/");
    let history = |state| [past(1, "1.4.0", &stands, None), past(2, "1.4.1", &changed, Some(state))];
    let waits = known(&stands, true, Some(2));
    let pending = history(ReviewState::Pending);
    assert_eq!(judge(ApproveChanges, &waits, &stands, &pending, &changed), Verdict::Waits);
    assert_eq!(judge(ApproveChanges, &waits, &stands, &pending, &stands), Verdict::Stands);
    let Verdict::Held { changed: next, again: None, .. } =
        judge(ApproveChanges, &waits, &stands, &pending, &other)
    else {
        panic!("not held")
    };
    assert_eq!(next.version, "1.4.2", "greater than what waits");

    let tool = known(&stands, true, None);
    let superseded = history(ReviewState::Superseded);
    let Verdict::Held { again, changed: next, .. } =
        judge(ApproveChanges, &tool, &stands, &superseded, &changed)
    else {
        panic!("not held")
    };
    assert_eq!((again, next.version.as_str()), (Some(Uuid::from_u128(2)), "1.4.1"), "no version twice");
    for policy in [ApproveAll, ApproveChanges] {
        let rejected = judge(policy, &tool, &stands, &history(ReviewState::Rejected), &changed);
        let Verdict::Refused { reason, adopted: None, clears: true } = rejected else {
            panic!("{rejected:?}")
        };
        assert!(reason.contains("1.4.1 was rejected"), "{reason}");
    }
    // One that served before is a change like any other: who goes back may mean harm.
    let older = [past(1, "1.4.0", &stands, None), past(2, "1.3.0", &changed, None)];
    let Verdict::Held { again: None, changed: next, .. } =
        judge(ApproveChanges, &tool, &stands, &older, &changed)
    else {
        panic!("not held")
    };
    assert_eq!(next.version, "1.4.1");
}

#[test]
fn what_nobody_approved_is_replaced_and_never_serves_by_itself() {
    let (stands, changed) = (mcp_tool("Old.", "http://a/"), mcp_tool("New.", "http://a/"));
    let tool = known(&stands, false, None);
    let history = [past(1, "1.4.0", &stands, Some(ReviewState::Pending))];
    for policy in [ApproveChanges, ApproveEverything] {
        assert_eq!(judge(policy, &tool, &stands, &history, &stands), Verdict::Waits);
        let verdict = judge(policy, &tool, &stands, &history, &changed);
        assert!(matches!(verdict, Verdict::Replaces(next) if next.version == "1.4.1"));
    }
    assert_eq!(judge(ApproveAll, &tool, &stands, &history, &stands), Verdict::Approved);
    assert!(matches!(judge(ApproveAll, &tool, &stands, &history, &changed), Verdict::Serves(_)));
    let rejected = [past(1, "1.4.0", &stands, Some(ReviewState::Rejected))];
    let verdict = judge(ApproveAll, &tool, &stands, &rejected, &stands);
    assert!(matches!(verdict, Verdict::Refused { clears: false, .. }));
}

#[test]
fn what_the_operator_changed_serves_at_once() {
    let stands = mcp_tool("Old.", "http://a/");
    let tool = known(&stands, true, None);
    let history = [past(1, "1.4.0", &stands, None)];
    let moved = Definition { timeout_ms: 9_000, ..mcp_tool("Old.", "http://b/") };
    let verdict = judge(ApproveChanges, &tool, &stands, &history, &moved);
    assert!(matches!(verdict, Verdict::Serves(next) if next.version == "2.0.0" && next.timeout_ms == 9_000));
    // The server's part of it still waits.
    let both = Definition { timeout_ms: 9_000, ..mcp_tool("New.", "http://b/") };
    let Verdict::Held { adopted: Some(adopted), changed, again: None } =
        judge(ApproveChanges, &tool, &stands, &history, &both)
    else {
        panic!("not held")
    };
    assert_eq!((adopted.description.as_str(), adopted.version.as_str()), ("Old.", "2.0.0"));
    assert_eq!((changed.description.as_str(), changed.version.as_str()), ("New.", "2.0.1"));
    assert_eq!(adopted.binding, changed.binding);
    // Another tool of the server is the server's change.
    let Binding::Mcp(binding) = &stands.binding else { panic!("not mcp") };
    let other = Mcp { tool: "other".into(), ..binding.clone() };
    let other = Definition { binding: Binding::Mcp(other), ..stands.clone() };
    let verdict = judge(ApproveChanges, &tool, &stands, &history, &other);
    assert!(matches!(verdict, Verdict::Held { adopted: None, .. }));
}

#[test]
fn what_was_rejected_keeps_no_tool_at_an_old_place() {
    let (stands, rejected) = (mcp_tool("Old.", "http://a/"), mcp_tool("Bad.", "http://b/"));
    let tool = known(&stands, true, None);
    let history = [past(1, "1.4.0", &stands, None), past(2, "1.4.1", &rejected, Some(ReviewState::Rejected))];
    let verdict = judge(ApproveChanges, &tool, &stands, &history, &rejected);
    let Verdict::Refused { adopted: Some(adopted), clears: true, .. } = &verdict else {
        panic!("{verdict:?}")
    };
    assert_eq!((adopted.description.as_str(), &adopted.binding), ("Old.", &rejected.binding));
    let standing = Standing { tool: &tool, definition: &stands, past: &history };
    assert!(!standing.stays_elsewhere(&verdict, &rejected));
    // What was rejected at the new place does not serve there, nor at the old one.
    let same = mcp_tool("Old.", "http://b/");
    let history = [past(2, "1.4.1", &same, Some(ReviewState::Rejected))];
    let verdict = judge(ApproveChanges, &tool, &stands, &history, &same);
    assert!(matches!(verdict, Verdict::Refused { adopted: None, .. }));
    assert!(standing.stays_elsewhere(&verdict, &same) && !standing.stays_elsewhere(&verdict, &stands));
}

#[test]
fn a_server_that_never_says_the_same_fills_nothing() {
    let (stands, changed) = (mcp_tool("Old.", "http://a/"), mcp_tool("New.", "http://a/"));
    let tool = known(&stands, true, Some(9));
    let mut history: Vec<_> =
        (0..50).map(|n| past(n, &format!("1.4.{n}"), &mcp_tool(&n.to_string(), "http://a/"), None)).collect();
    let verdict = judge(ApproveChanges, &tool, &stands, &history, &changed);
    let Verdict::Refused { reason, adopted: None, clears: false } = verdict else { panic!("{verdict:?}") };
    assert!(reason.contains("50 times"), "{reason}");
    // A server that was moved meanwhile is asked at its new place, and no more than that is taken.
    let moved = mcp_tool("New.", "http://b/");
    for policy in [ApproveAll, ApproveChanges, ApproveEverything] {
        let verdict = judge(policy, &tool, &stands, &history, &moved);
        let Verdict::Refused { adopted: Some(adopted), .. } = verdict else { panic!("{verdict:?}") };
        assert_eq!((adopted.description.as_str(), &adopted.binding), ("Old.", &moved.binding));
        let verdict = judge(policy, &tool, &stands, &history, &mcp_tool("Old.", "http://b/"));
        assert!(matches!(verdict, Verdict::Serves(_)), "{verdict:?}");
    }
    history[0].is_recent = false;
    assert!(matches!(judge(ApproveChanges, &tool, &stands, &history, &changed), Verdict::Held { .. }));
}
