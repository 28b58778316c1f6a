//! Agents that change and are listed; keys with scopes, rotated, listed and used.

use ::rpc::{PageKey, reason_of};
use proto::permissions::v1::{
    self as wire, CreateAgentRequest, IssueApiKeyRequest, ListAgentsRequest, ListApiKeysRequest,
    RevokeApiKeyRequest, RotateApiKeyRequest, UpdateAgentRequest,
};
use secrecy::SecretString;
use tonic::Code;
use types::Scope;

use super::{
    keys::{authenticator, keys},
    service::Suite,
    *,
};
use crate::{
    issue_key::{Issued, WantedKey, issue_key},
    list_keys::list_keys,
    rotate_key::{Rotated, rotate_key},
    store::{KeyFilter, KeyRow},
    token::Issuers,
};

fn root() -> Caller {
    caller("root", Role::Admin)
}

fn held_to(scopes: &[Scope]) -> Caller {
    Caller { scopes: scopes.to_vec(), ..root() }
}

async fn change(database: &Database, agent: &str, change: AgentChange) -> Result<store::AgentRow, Error> {
    let changed = update_agent(database, &Teams::new(database), &root(), agent, change, noon()).await;
    changed.map(|(agent, _)| agent)
}

async fn issue(database: &Database, by: &Caller, wanted: WantedKey) -> Result<Issued, Error> {
    issue_key(database, &keys(), by, wanted, noon()).await
}

fn for_scout(ttl_s: i64, scopes: &[Scope]) -> WantedKey {
    WantedKey { agent: "scout".into(), ttl_s, scopes: scopes.to_vec(), note: "nightly".into() }
}

async fn rotate(
    database: &Database,
    by: &Caller,
    key_id: &str,
    times: (i64, i64),
    now: DateTime<Utc>,
) -> Result<Rotated, Error> {
    rotate_key(database, &keys(), by, key_id, times, now).await
}

async fn is_taken(database: &Database, key: &SecretString, now: DateTime<Utc>) -> bool {
    authenticator(database, &keys(), Issuers::default()).authenticate(key, "", now).await.is_ok()
}

async fn listed(database: &Database, include_ended: bool, now: DateTime<Utc>) -> Vec<KeyRow> {
    let pages = PageKey::new(&SecretString::from("k"));
    let filter = KeyFilter { agent_id: None, include_ended };
    list_keys(database, &pages, &root(), filter, (0, ""), now).await.unwrap().0
}

async fn events(database: &Database) -> Vec<String> {
    let payloads: Vec<Vec<u8>> = sqlx::query_scalar("SELECT payload FROM permissions.outbox ORDER BY id")
        .fetch_all(database.pool().unwrap())
        .await
        .unwrap();
    let event = |payload: Vec<u8>| {
        let event: proto::audit::v1::Event = prost::Message::decode(payload.as_slice()).unwrap();
        assert_eq!(
            (event.action(), event.agent_id.as_str()),
            (proto::audit::v1::Action::IdentityChanged, "root")
        );
        event.message
    };
    payloads.into_iter().map(event).collect()
}

#[tokio::test]
async fn an_agent_changes_and_a_disabled_one_is_nobody() {
    let database = team().await;
    let key = issue(&database, &root(), for_scout(0, &[])).await.unwrap().key;
    assert!(is_taken(&database, &key, noon()).await);
    disable(&database, "scout").await;
    assert!(!is_taken(&database, &key, noon()).await);
    let back = AgentChange {
        disabled: Some(false),
        role: Some(Role::Auditor),
        specialization: Some("Reader".into()),
    };
    let after = change(&database, "scout", back.clone()).await.unwrap();
    assert_eq!(
        (after.role.as_str(), after.specialization.as_str(), after.disabled),
        ("auditor", "Reader", false)
    );
    assert!(is_taken(&database, &key, noon()).await);
    let before = events(&database).await;
    assert!(before.last().unwrap().contains("role auditor instead of agent"), "{before:?}");
    // The same again changes nothing and is not told.
    change(&database, "scout", back).await.unwrap();
    assert_eq!(events(&database).await, before);
    assert!(matches!(change(&database, "nobody", AgentChange::default()).await, Err(Error::NotFound { .. })));
    let quoted = AgentChange { specialization: Some("a\"b".into()), ..AgentChange::default() };
    assert!(matches!(change(&database, "scout", quoted).await, Err(Error::Invalid { .. })));
}

#[tokio::test]
async fn a_team_keeps_an_enabled_admin_however_many_go_at_once() {
    let database = team().await;
    let disabled = AgentChange { disabled: Some(true), ..AgentChange::default() };
    let demoted = AgentChange { role: Some(Role::Operator), ..AgentChange::default() };
    for away in [&disabled, &demoted] {
        let refused = change(&database, "root", away.clone()).await;
        assert!(matches!(refused, Err(Error::LastAdmin { .. })), "{refused:?}");
    }
    let admin = AgentChange { role: Some(Role::Admin), ..AgentChange::default() };
    for agent in ["scout", "second"] {
        change(&database, agent, admin.clone()).await.unwrap();
    }
    let all = tokio::join!(
        change(&database, "root", disabled.clone()),
        change(&database, "scout", demoted),
        change(&database, "second", disabled.clone()),
    );
    let refused = [all.0, all.1, all.2].into_iter().filter(Result::is_err).count();
    assert_eq!(refused, 1);
    // Whoever is disabled is no admin that is left.
    let left: i64 =
        sqlx::query_scalar("SELECT count(*) FROM permissions.agent WHERE role = 'admin' AND NOT disabled")
            .fetch_one(database.pool().unwrap())
            .await
            .unwrap();
    assert_eq!(left, 1);
}

#[tokio::test]
async fn no_key_opens_more_than_the_one_that_issued_it() {
    let database = team().await;
    let own = [Scope::PermissionsWrite, Scope::ToolsRead];
    let limited = held_to(&own);
    let narrow = issue(&database, &limited, for_scout(0, &[Scope::ToolsRead])).await.unwrap();
    let authenticator = authenticator(&database, &keys(), Issuers::default());
    let found = authenticator.authenticate(&narrow.key, "", noon()).await.unwrap().caller;
    assert_eq!(found.scopes, [Scope::ToolsRead]);
    for (scopes, missing) in
        [(vec![], "tools_call"), (vec![Scope::ToolsRead, Scope::AuditRead], "audit_read")]
    {
        let refused = issue(&database, &limited, for_scout(0, &scopes)).await.unwrap_err();
        assert!(
            matches!(&refused, Error::ScopesExceeded { missing: told, .. } if told.contains(missing)),
            "{refused}"
        );
    }
    let operator = caller("op", Role::Operator);
    let for_root = WantedKey { agent: "root".into(), ..WantedKey::default() };
    let refused = issue(&database, &operator, for_root).await.unwrap_err();
    assert!(matches!(&refused, Error::RoleExceeded { needed } if needed == "admin"), "{refused}");
    // Nor does a rotation give out what an issue does not.
    let whole = issue(&database, &root(), for_scout(0, &[])).await.unwrap();
    let refused = rotate(&database, &limited, &whole.key_id, (0, 0), noon()).await.unwrap_err();
    assert!(matches!(refused, Error::ScopesExceeded { .. }), "{refused}");
    rotate(&database, &limited, &narrow.key_id, (0, 0), noon()).await.unwrap();
    let promoted = AgentChange { role: Some(Role::Admin), ..AgentChange::default() };
    let teams = Teams::new(&database);
    let refused = update_agent(&database, &teams, &operator, "scout", promoted, noon()).await.unwrap_err();
    assert!(matches!(refused, Error::RoleExceeded { .. }), "{refused}");
    // Nor does it reach more by the role of an agent that has a key of everything.
    let promoted = AgentChange { role: Some(Role::Admin), ..AgentChange::default() };
    let refused = update_agent(&database, &teams, &limited, "scout", promoted, noon()).await.unwrap_err();
    assert!(matches!(refused, Error::ScopesExceeded { .. }), "{refused}");
    let another = ("another", "", Role::Admin);
    let refused = create_agent(&database, &teams, &limited, another, noon()).await.unwrap_err();
    assert!(matches!(refused, Error::ScopesExceeded { .. }), "{refused}");
}

#[tokio::test]
async fn both_keys_are_valid_while_one_takes_the_place_of_the_other() {
    let database = team().await;
    let day = TimeDelta::days(1);
    let old = issue(&database, &root(), for_scout(10 * 86_400, &[Scope::ToolsCall])).await.unwrap();
    let now = noon() + day;
    let rotated = rotate(&database, &root(), &old.key_id, (3_600, 0), now).await.unwrap();
    assert_eq!(rotated.old_expire_time, now + hour());
    assert_eq!(rotated.new.expire_time, Some(now + day * 10), "as long as the old one was");
    let found =
        authenticator(&database, &keys(), Issuers::default()).authenticate(&rotated.new.key, "", now).await;
    assert_eq!(found.unwrap().caller.scopes, [Scope::ToolsCall]);
    let last = now + hour() - TimeDelta::microseconds(1);
    assert!(is_taken(&database, &old.key, last).await && is_taken(&database, &rotated.new.key, last).await);
    assert!(!is_taken(&database, &old.key, now + hour()).await);
    assert!(is_taken(&database, &rotated.new.key, now + hour()).await);
    // Twice while both are valid; then the replacement goes, and the life is what it was at first.
    let why = rotate(&database, &root(), &old.key_id, (0, 0), last).await.unwrap_err().to_string();
    assert!(why.contains(&rotated.new.key_id), "{why}");
    crate::issue_key::revoke_key(&database, &root(), &rotated.new.key_id, last).await.unwrap();
    let again = rotate(&database, &root(), &old.key_id, (86_400, 0), last).await.unwrap();
    assert_eq!(again.old_expire_time, now + hour(), "its end never moves later");
    assert_eq!(again.new.expire_time, Some(last + day * 10));
    for (key_id, told) in [(&old.key_id, "has ended"), (&rotated.new.key_id, "was revoked")] {
        let why = rotate(&database, &root(), key_id, (0, 0), now + hour()).await.unwrap_err();
        assert!(matches!(why, Error::NotRotatable { .. }) && why.to_string().contains(told), "{why}");
    }
    for times in [(-1, 0), (30 * 86_400 + 1, 0), (0, -1), (0, i64::MAX)] {
        let refused = rotate(&database, &root(), &again.new.key_id, times, last).await;
        assert!(matches!(refused, Err(Error::Invalid { .. })), "{times:?}");
    }
    let endless = issue(&database, &root(), for_scout(0, &[])).await.unwrap();
    let rotated = rotate(&database, &root(), &endless.key_id, (0, 0), noon()).await.unwrap();
    assert_eq!((rotated.old_expire_time, rotated.new.expire_time), (noon() + day, None));
    let other = Caller { team: "other".into(), ..root() };
    let stranger = rotate(&database, &other, &endless.key_id, (0, 0), noon()).await;
    assert!(matches!(stranger, Err(Error::NotFound { .. })), "{stranger:?}");
}

#[tokio::test]
async fn ten_rotations_at_once_are_one() {
    let database = team().await;
    let old = issue(&database, &root(), for_scout(0, &[])).await.unwrap();
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let (database, key_id) = (database.clone(), old.key_id.clone());
        all.spawn(async move { rotate(&database, &root(), &key_id, (0, 0), noon()).await });
    }
    let mut done = 0;
    while let Some(one) = all.join_next().await {
        match one.unwrap() {
            Ok(_) => done += 1,
            Err(error) => assert!(matches!(error, Error::NotRotatable { .. }), "{error}"),
        }
    }
    assert_eq!((done, listed(&database, true, noon()).await.len()), (1, 2));
}

#[tokio::test]
async fn the_last_use_is_known_by_the_minute_and_written_once_in_one() {
    let database = team().await;
    let key = issue(&database, &root(), for_scout(0, &[])).await.unwrap().key;
    let process = || authenticator(&database, &keys(), Issuers::default());
    let (authenticator, behind) = (process(), process());
    let last_use = async || listed(&database, false, noon()).await[0].last_use_time;
    assert_eq!(last_use().await, None);
    let written = async |at| {
        authenticator.authenticate(&key, "", at).await.unwrap();
        authenticator.uses.write(&database, at).await.unwrap();
        last_use().await
    };
    assert_eq!(written(noon() + TimeDelta::seconds(59)).await, Some(noon()));
    // Within the minute nothing is written, whatever stands there.
    sqlx::query("DELETE FROM permissions.api_key_use").execute(database.pool().unwrap()).await.unwrap();
    assert_eq!(written(noon() + TimeDelta::seconds(59)).await, None);
    assert_eq!(written(noon() + TimeDelta::seconds(60)).await, Some(noon() + TimeDelta::minutes(1)));
    // One whose clock is behind moves nothing back.
    behind.authenticate(&key, "", noon()).await.unwrap();
    behind.uses.write(&database, noon()).await.unwrap();
    assert_eq!(last_use().await, Some(noon() + TimeDelta::minutes(1)));
    // What is not a key is not used.
    let wrong = SecretString::from("tc_dev_x_y_00000000");
    authenticator.authenticate(&wrong, "", noon()).await.unwrap_err();
    authenticator.uses.write(&database, noon()).await.unwrap();
    let uses: i64 = sqlx::query_scalar("SELECT count(*) FROM permissions.api_key_use")
        .fetch_one(database.pool().unwrap())
        .await
        .unwrap();
    assert_eq!(uses, 1);
}

#[tokio::test]
async fn identities_are_kept_over_grpc_page_by_page() {
    let suite = Suite::start(team().await);
    let mut client = suite.client.clone();
    let (root, operator) = (root(), caller("root", Role::Operator));
    let request = UpdateAgentRequest {
        agent_id: "scout".into(),
        disabled: Some(true),
        ..UpdateAgentRequest::default()
    };
    let refused = client.update_agent(suite.as_agent(&operator, request.clone())).await.unwrap_err();
    assert_eq!(reason_of(&refused), Some(ErrorReason::RoleRequired));
    let updated = client.update_agent(suite.as_agent(&root, request)).await.unwrap().into_inner();
    assert!(updated.agent.unwrap().disabled && updated.revision > 0);
    let last =
        UpdateAgentRequest { agent_id: "root".into(), disabled: Some(true), ..UpdateAgentRequest::default() };
    let refused = client.update_agent(suite.as_agent(&root, last)).await.unwrap_err();
    assert_eq!(
        (refused.code(), reason_of(&refused)),
        (Code::FailedPrecondition, Some(ErrorReason::LastAdmin))
    );
    assert!(refused.message().contains("last enabled admin"), "{refused:?}");

    let auditor = caller("ed", Role::Auditor);
    let (mut names, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListAgentsRequest { page_size: 3, page_token, ..ListAgentsRequest::default() };
        let page = client.list_agents(suite.as_agent(&auditor, request)).await.unwrap().into_inner();
        names.extend(page.agents.into_iter().map(|agent| (agent.id, agent.disabled)));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let names: Vec<_> = names.iter().map(|(name, disabled)| (name.as_str(), *disabled)).collect();
    assert_eq!(names, [("root", false), ("scout", true), ("second", false), ("writer", false)]);
    let only = ListAgentsRequest { specialization: "Researcher".into(), ..ListAgentsRequest::default() };
    assert_eq!(
        client.list_agents(suite.as_agent(&auditor, only)).await.unwrap().into_inner().agents.len(),
        2
    );
    let disabled = wire::Agent { id: "new".into(), disabled: true, ..wire::Agent::default() };
    let request = CreateAgentRequest { agent: Some(disabled) };
    let refused = client.create_agent(suite.as_agent(&root, request)).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    suite.end().await;
}

#[tokio::test]
async fn keys_are_issued_listed_rotated_and_revoked_over_grpc() {
    let suite = Suite::start(team().await);
    let mut client = suite.client.clone();
    let (root, auditor) = (root(), caller("ed", Role::Auditor));
    let mut ids = Vec::new();
    for note in ["one", "two", "three"] {
        let scopes =
            vec![wire::Scope::ToolsRead.into(), wire::Scope::ToolsCall.into(), wire::Scope::ToolsRead.into()];
        let request = IssueApiKeyRequest { agent_id: "scout".into(), ttl_s: 60, scopes, note: note.into() };
        ids.push(client.issue_api_key(suite.as_agent(&root, request)).await.unwrap().into_inner().key_id);
    }
    for (request, field) in [
        (IssueApiKeyRequest { scopes: vec![0], ..IssueApiKeyRequest::default() }, "scopes[0]"),
        (IssueApiKeyRequest { scopes: vec![1, 99], ..IssueApiKeyRequest::default() }, "scopes[1]"),
        (IssueApiKeyRequest { note: "x".repeat(201), ..IssueApiKeyRequest::default() }, "note"),
        (IssueApiKeyRequest { note: "a\nb".into(), ..IssueApiKeyRequest::default() }, "note"),
        (IssueApiKeyRequest { ttl_s: -1, ..IssueApiKeyRequest::default() }, "ttl_s"),
    ] {
        let request = IssueApiKeyRequest { agent_id: "scout".into(), ..request };
        let refused = client.issue_api_key(suite.as_agent(&root, request)).await.unwrap_err();
        assert!(refused.code() == Code::InvalidArgument && refused.message().contains(field), "{refused:?}");
    }
    let rotate = RotateApiKeyRequest { key_id: ids[0].clone(), overlap_s: 30, ttl_s: 600 };
    let rotated = client.rotate_api_key(suite.as_agent(&root, rotate.clone())).await.unwrap().into_inner();
    let lives = |from: &prost_types::Timestamp, to: &prost_types::Timestamp| to.seconds - from.seconds;
    assert_eq!(lives(&rotated.old_expire_time.unwrap(), &rotated.expire_time.unwrap()), 570);
    let refused = client.rotate_api_key(suite.as_agent(&root, rotate)).await.unwrap_err();
    let told = (refused.code(), reason_of(&refused));
    assert_eq!(told, (Code::FailedPrecondition, Some(ErrorReason::KeyNotRotatable)), "{refused:?}");
    let revoke = RevokeApiKeyRequest { key_id: ids[1].clone() };
    client.revoke_api_key(suite.as_agent(&root, revoke)).await.unwrap();

    let mut seen = Vec::new();
    for include_ended in [true, false] {
        let mut page_token = String::new();
        loop {
            let request =
                ListApiKeysRequest { page_size: 2, page_token, include_ended, agent_id: "scout".into() };
            let page = client.list_api_keys(suite.as_agent(&auditor, request)).await.unwrap().into_inner();
            seen.extend(page.api_keys);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
    }
    let order: Vec<&str> = seen.iter().map(|key| key.key_id.as_str()).collect();
    let (new, ids) = (rotated.key_id.as_str(), [ids[0].as_str(), ids[1].as_str(), ids[2].as_str()]);
    assert_eq!(order, [new, ids[2], ids[1], ids[0], new, ids[2], ids[0]]);
    let old = &seen[3];
    assert_eq!((old.replaced_by.as_str(), old.note.as_str(), old.created_by.as_str()), (new, "one", "root"));
    assert_eq!(old.scopes, [i32::from(wire::Scope::ToolsRead), wire::Scope::ToolsCall.into()]);
    assert!(seen[2].revoke_time.is_some() && seen[0].note == "one" && seen[0].last_use_time.is_none());
    let operator = caller("op", Role::Operator);
    let refused = client.rotate_api_key(suite.as_agent(&operator, RotateApiKeyRequest::default())).await;
    assert_eq!(reason_of(&refused.unwrap_err()), Some(ErrorReason::RoleRequired));
    suite.end().await;
}
