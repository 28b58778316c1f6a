//! Policies of teams: written in versions, taken out of force, limited in number, and decided by everywhere within a
//! second; what is not valid, or cannot be read any more, never allows.

use ::rpc::ServiceError;
use serde_json::json;
use types::Kind;

use super::*;
use crate::{
    access_requests::Decisions,
    authorize::ArgumentsText,
    follow,
    list_policies::{ListedPolicy, list_policies},
    put_policy::{NewPolicy, put_policy, remove_policy},
    store::{GrantRow, PolicyRow},
};

const FORBID_ALL: &str = r#"forbid (principal, action == Action::"call", resource);"#;
const PERMIT_ALL: &str = r#"permit (principal, action == Action::"call", resource);"#;
const MAIL: &str = r#"@message("Mail goes to example.com only.")
forbid (principal, action == Action::"call", resource)
when { resource.groups.contains("mail.*") }
unless {
  context.arguments.texts.hasTag("/to") && context.arguments.texts.getTag("/to") like "*@example.com"
};"#;

fn new(name: &str, text: &str) -> NewPolicy {
    NewPolicy { name: name.into(), text: text.into(), validate_only: false, expected_version: 0 }
}

async fn put(database: &Database, new: NewPolicy) -> Result<PolicyRow, Error> {
    put_policy(database, &Teams::new(database), &caller("root", Role::Admin), new, noon()).await
}

async fn remove(database: &Database, name: &str) -> Result<PolicyRow, Error> {
    remove_policy(database, &Teams::new(database), &caller("root", Role::Admin), name, noon()).await
}

async fn listed(database: &Database, name: &str, removed: bool) -> Vec<(String, i64, bool)> {
    let listed = list_policies(database, "t", name, removed).await.unwrap();
    let brief = |listed: ListedPolicy| {
        (listed.policy.name, listed.policy.version, listed.policy.remove_time.is_none())
    };
    listed.into_iter().map(brief).collect()
}

/// A grant to `scout`, as it stands once it was made.
async fn granted(database: &Database, tool: &str) {
    let mut transaction = database.pool().unwrap().begin().await.unwrap();
    let revision = store::revision_next(&mut transaction, "t", noon()).await.unwrap();
    let grant = GrantRow::plain("t", (Some("scout".into()), None), tool, ("root", noon()));
    store::grant_add(&mut transaction, "t", &grant, revision).await.unwrap();
    transaction.commit().await.unwrap();
}

fn mail(agent: &str, arguments: &str) -> Asked {
    let mut asked = asked(agent);
    asked.tool.name = "mail.send".into();
    asked.arguments = ArgumentsText::from(arguments.to_owned());
    asked
}

#[tokio::test]
async fn a_policy_is_kept_in_versions_and_a_fault_leaves_the_one_in_force() {
    let database = team().await;
    let first = put(&database, new("p", FORBID_ALL)).await.unwrap();
    assert_eq!((first.version, first.created_by.as_str()), (1, "root"));
    let again = put(&database, new("p", FORBID_ALL)).await.unwrap();
    assert_eq!(again, first, "the same text is the same version");
    let checked = put(&database, NewPolicy { validate_only: true, ..new("p", PERMIT_ALL) }).await.unwrap();
    assert_eq!(checked.version, 2);
    assert_eq!(listed(&database, "", false).await, [("p".into(), 1, true)], "only checked");
    for text in
        ["forbid (principal", "", "forbid (principal, action, resource) when { context.usr == \"x\" };"]
    {
        let error = put(&database, new("p", text)).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid, "{error}");
        let violations = error.details().violations;
        assert!(violations.iter().all(|each| each.field == "text"), "{violations:?}");
        assert!(violations[0].description.starts_with("line 1, column "), "{violations:?}");
    }
    assert_eq!(reason(&database, &asked("scout"), noon()).await, Some(ErrorReason::PolicyDenied));
    let second = put(&database, NewPolicy { expected_version: 1, ..new("p", PERMIT_ALL) }).await.unwrap();
    assert!(second.version == 2 && second.revision > first.revision);
    let stale = put(&database, NewPolicy { expected_version: 1, ..new("p", MAIL) }).await.unwrap_err();
    assert_eq!((stale.kind(), stale.reason()), (Kind::Precondition, ErrorReason::EtagMismatch));
    assert!(stale.public_message().contains("is at version 2"), "{stale}");
    // Back to what was: the older text is a new version.
    assert_eq!(put(&database, new("p", FORBID_ALL)).await.unwrap().version, 3);
    let expected = [("p".into(), 3, true), ("p".into(), 2, false), ("p".into(), 1, false)];
    assert_eq!(listed(&database, "p", false).await, expected);
}

#[tokio::test]
async fn a_removed_policy_decides_nothing_and_may_come_back() {
    let database = team().await;
    granted(&database, "python_sandbox").await;
    assert_eq!(remove(&database, "p").await.unwrap_err().kind(), Kind::NotFound);
    put(&database, new("p", FORBID_ALL)).await.unwrap();
    let desk = desk(&database);
    let denied = desk.authorize(&asked("scout"), noon()).await.unwrap();
    assert_eq!(
        (denied.reason, denied.policies),
        (Some(ErrorReason::PolicyDenied), vec!["team/p".to_owned()])
    );
    let removed = remove(&database, "p").await.unwrap();
    assert_eq!(remove(&database, "p").await.unwrap(), removed, "again answers the same");
    assert_eq!(desk.authorize(&asked("scout"), noon()).await.unwrap().reason, None);
    assert_eq!(listed(&database, "", false).await, []);
    assert_eq!(listed(&database, "", true).await, [("p".into(), 1, false)]);
    let missing = list_policies(&database, "t", "q", true).await.unwrap_err();
    assert_eq!(missing.kind(), Kind::NotFound);
    let expected = NewPolicy { expected_version: 1, ..new("p", FORBID_ALL) };
    assert_eq!(put(&database, expected).await.unwrap_err().kind(), Kind::Precondition);
    assert_eq!(put(&database, new("p", FORBID_ALL)).await.unwrap().version, 2);
    assert_eq!(
        desk.authorize(&asked("scout"), noon()).await.unwrap().reason,
        Some(ErrorReason::PolicyDenied)
    );
}

#[tokio::test]
async fn a_forbid_denies_what_grants_allow_and_tells_its_message() {
    let database = team().await;
    granted(&database, "mail.send").await;
    put(&database, new("no-mail-outside", MAIL)).await.unwrap();
    let desk = desk(&database);
    for (arguments, allowed) in [
        (json!({"to": "ann@example.com"}), true),
        (json!({"to": "ann@example.org"}), false),
        (json!({"to": "ann@example.com.evil.org"}), false),
        (json!({"to": ["ann@example.com"]}), false),
        (json!({"to": null}), false),
        (json!({}), false),
    ] {
        let decision = desk.authorize(&mail("scout", &arguments.to_string()), noon()).await.unwrap();
        assert_eq!(decision.reason.is_none(), allowed, "{arguments} {decision:?}");
        if !allowed {
            assert_eq!(decision.reason, Some(ErrorReason::PolicyDenied));
            assert!(decision.message.contains("Mail goes to example.com only."), "{}", decision.message);
            assert_eq!(decision.policies, ["team/no-mail-outside"]);
        }
    }
    for text in ["", "no JSON", "[\"ann@example.com\"]", "\"/to\""] {
        assert!(desk.authorize(&mail("scout", text), noon()).await.unwrap().reason.is_some(), "{text:?}");
    }
    assert_eq!(desk.authorize(&asked("scout"), noon()).await.unwrap().reason, Some(ErrorReason::NoGrant));
}

#[tokio::test]
async fn a_permit_allows_without_a_grant_and_never_over_a_forbid() {
    let database = team().await;
    let by_role =
        r#"permit (principal, action, resource) when { principal.specialization == "Researcher" };"#;
    put(&database, new("researchers", by_role)).await.unwrap();
    let desk = desk(&database);
    let decision = desk.authorize(&asked("scout"), noon()).await.unwrap();
    assert_eq!((decision.reason, decision.grant_id, decision.reserved), (None, None, false));
    assert_eq!(decision.policies, ["team/researchers"]);
    assert_eq!(desk.authorize(&asked("writer"), noon()).await.unwrap().reason, Some(ErrorReason::NoGrant));
    disable(&database, "scout").await;
    assert_eq!(
        desk.authorize(&asked("scout"), noon()).await.unwrap().reason,
        Some(ErrorReason::AgentDisabled)
    );
    put(&database, new("nobody", FORBID_ALL)).await.unwrap();
    let denied = desk.authorize(&asked("second"), noon()).await.unwrap();
    assert_eq!(
        (denied.reason, denied.policies),
        (Some(ErrorReason::PolicyDenied), vec!["team/nobody".to_owned()])
    );
}

#[tokio::test]
async fn policies_are_those_of_one_team() {
    let database = team().await;
    people(&database, "u").await;
    granted(&database, "python_sandbox").await;
    let other = Caller { team: "u".into(), ..caller("root", Role::Admin) };
    put_policy(&database, &Teams::new(&database), &other, new("p", FORBID_ALL), noon()).await.unwrap();
    assert_eq!(reason(&database, &asked("scout"), noon()).await, None);
    assert_eq!(listed(&database, "", true).await, []);
    let foreign = r#"forbid (principal == Agent::"u/scout", action, resource);"#;
    let error = put(&database, new("p", foreign)).await.unwrap_err();
    assert!(error.to_string().contains(r#"Agent::"t/scout""#), "{error}");
}

#[tokio::test]
async fn one_that_errs_denies_and_is_named() {
    let database = team().await;
    granted(&database, "python_sandbox").await;
    let most = "9223372036854775807";
    let erring = format!("permit (principal, action, resource) when {{ context.now + {most} > 0 }};");
    put(&database, new("sums", &erring)).await.unwrap();
    let denied = desk(&database).authorize(&asked("scout"), noon()).await.unwrap();
    assert_eq!(
        (denied.reason, denied.policies),
        (Some(ErrorReason::PolicyDenied), vec!["team/sums".to_owned()])
    );
    assert!(denied.message.contains("team/sums"), "{}", denied.message);
    assert!(
        denied.message.contains("cannot be evaluated for this call (integer overflow)"),
        "{}",
        denied.message
    );
    remove(&database, "sums").await.unwrap();
    // Cedar names what it adds; a number that came with the call is told to nobody.
    let text = format!(
        "forbid (principal, action, resource)
         when {{ context.arguments.numbers.hasTag(\"/n\") && context.arguments.numbers.getTag(\"/n\") + {most} > 0 }};"
    );
    put(&database, new("adds", &text)).await.unwrap();
    let call = Asked { arguments: ArgumentsText::from(r#"{"n": 8155551234}"#.to_owned()), ..asked("scout") };
    let denied = desk(&database).authorize(&call, noon()).await.unwrap();
    assert_eq!(denied.reason, Some(ErrorReason::PolicyDenied));
    assert!(
        denied.message.contains("team/adds") && denied.message.contains("integer overflow"),
        "{denied:?}"
    );
    assert!(!denied.message.contains("8155551234") && !denied.message.contains(most), "{denied:?}");
}

#[tokio::test]
async fn one_that_cannot_be_read_any_more_denies_everything_and_is_listed_so() {
    let database = team().await;
    granted(&database, "python_sandbox").await;
    put(&database, new("old", FORBID_ALL)).await.unwrap();
    sqlx::query("UPDATE permissions.policy SET policy_text = $1 WHERE team_id = 't' AND name = 'old'")
        .bind("permit (principal, action, resource) when { context.wasThere };")
        .execute(database.pool().unwrap())
        .await
        .unwrap();
    let desk = desk(&database);
    let denied = desk.authorize(&asked("scout"), noon()).await.unwrap();
    assert_eq!(
        (denied.reason, denied.policies),
        (Some(ErrorReason::PolicyDenied), vec!["team/old".to_owned()])
    );
    assert!(denied.message.contains("team/old cannot be read any more"), "{}", denied.message);
    let listed = list_policies(&database, "t", "", false).await.unwrap();
    assert!(listed[0].fault.contains("wasThere"), "{listed:?}");
    remove(&database, "old").await.unwrap();
    assert_eq!(desk.authorize(&asked("scout"), noon()).await.unwrap().reason, None);
    assert_eq!(list_policies(&database, "t", "", true).await.unwrap()[0].fault, "");
}

#[tokio::test]
async fn a_team_has_fifty_in_force_and_one_more_takes_the_place_of_another() {
    let database = team().await;
    for nth in 0..50 {
        put(&database, new(&format!("p{nth}"), MAIL)).await.unwrap();
    }
    let error = put(&database, new("p50", MAIL)).await.unwrap_err();
    assert!(error.kind() == Kind::Invalid && error.to_string().contains("50 policies"), "{error}");
    put(&database, new("p0", FORBID_ALL)).await.unwrap();
    remove(&database, "p1").await.unwrap();
    put(&database, new("p50", MAIL)).await.unwrap();
    assert_eq!(listed(&database, "", false).await.len(), 50);
}

#[tokio::test]
async fn writers_at_once_make_versions_without_gaps() {
    let database = team().await;
    let writers = (0..8).map(|nth| {
        let database = database.clone();
        let text = FORBID_ALL.replace(';', &format!(" when {{ context.now > {nth} }};"));
        tokio::spawn(async move { put(&database, new("p", &text)).await.unwrap().version })
    });
    let mut versions = Vec::new();
    for writer in writers.collect::<Vec<_>>() {
        versions.push(writer.await.unwrap());
    }
    versions.sort_unstable();
    assert_eq!(versions, (1..=8).collect::<Vec<_>>());
    assert_eq!(listed(&database, "", false).await, [("p".into(), 8, true)]);
}

#[tokio::test]
async fn another_process_decides_by_it_within_a_second() {
    let database = team().await;
    granted(&database, "python_sandbox").await;
    let desk = desk(&database);
    let stop = tokio_util::sync::CancellationToken::new();
    let following = tokio::spawn(follow::follow(
        Arc::clone(&desk.teams),
        Decisions::default(),
        database.clone(),
        stop.clone(),
    ));
    assert_eq!(desk.authorize(&asked("scout"), noon()).await.unwrap().reason, None);
    for (text, expected) in [(FORBID_ALL, Some(ErrorReason::PolicyDenied)), (PERMIT_ALL, None)] {
        put(&database, new("p", text)).await.unwrap();
        let began = std::time::Instant::now();
        while desk.authorize(&asked("scout"), noon()).await.unwrap().reason != expected {
            assert!(began.elapsed() < Duration::from_secs(1), "{text}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    stop.cancel();
    following.await.unwrap();
}
