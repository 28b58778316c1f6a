//! What is erased with its data subject: texts, waiting calls, cached answers, files, wherever they are; and what must
//! not come back.

use ::store::Database;
use chrono::{DateTime, TimeDelta, Utc};
use proto::{
    executor::v1::{
        EraseUserRequest, EraseUserResponse, ExecuteRequest, Execution, ExecutionStatus, ListIntentsRequest,
        ListIntentsResponse, Source, StartExecutionRequest,
    },
    registry::v1::CacheSettings,
};
use tonic::Status;
use types::Caller;
use uuid::Uuid;

use super::{
    cache::{hearing, keeping, read_only},
    fakes::Fakes,
    house::{House, PATIENCE, TEAM, agent, execution, posting, request, until},
    queue::{get, later},
    upstream::{Held, Upstream, json},
};
use crate::events::timestamp;

const USER: &str = "ada-lovelace";

/// The agent, on behalf of a user.
fn for_user(user: &str) -> Caller {
    Caller { user: user.into(), ..agent("agent") }
}

async fn call_for(house: &House, user: &str, request: ExecuteRequest) -> Execution {
    execution(house.execute_as(&for_user(user), PATIENCE, request).await)
}

async fn start_for(house: &House, user: &str, request: StartExecutionRequest) -> Execution {
    let request = house.asking(&for_user(user), request);
    house.client.clone().start_execution(request).await.unwrap().into_inner().execution.unwrap()
}

/// Asks once, as the audit service does.
async fn erase_once(house: &House, user: &str, erasure: Uuid, before: DateTime<Utc>) -> EraseUserResponse {
    let asked = EraseUserRequest {
        team_id: TEAM.into(),
        user: user.into(),
        end_time: Some(timestamp(before)),
        erasure_id: erasure.to_string(),
    };
    let request = house.asking(&Caller::service("audit"), asked);
    house.client.clone().erase_user(request).await.unwrap().into_inner()
}

/// The same until it is done.
async fn erase(house: &House, user: &str, erasure: Uuid) -> EraseUserResponse {
    erase_before(house, user, erasure, Utc::now()).await
}

async fn erase_before(house: &House, user: &str, erasure: Uuid, before: DateTime<Utc>) -> EraseUserResponse {
    for _ in 0..20 {
        let answer = erase_once(house, user, erasure, before).await;
        if answer.done {
            return answer;
        }
    }
    panic!("the erasure is not done");
}

async fn list(house: &House, asked: ListIntentsRequest) -> Result<ListIntentsResponse, Status> {
    let asked =
        ListIntentsRequest { end_time: Some(timestamp(Utc::now() + chrono::TimeDelta::seconds(1))), ..asked };
    let request = house.asking(&Caller::service("audit"), asked);
    house.client.clone().list_intents(request).await.map(tonic::Response::into_inner)
}

/// The columns of the service's tables that hold a text, as text or as bytes.
async fn holds(database: &Database, what: &str) -> Vec<String> {
    let pool = database.pool().unwrap();
    let columns: Vec<(String, String)> = sqlx::query_as(
        "SELECT format('%I.%I', table_schema, table_name), column_name::text FROM information_schema.columns
         WHERE table_schema = 'executor'",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    let mut found = Vec::new();
    for (table, column) in columns {
        let asked = format!(
            "SELECT count(*) FROM {table} t WHERE position($1::bytea IN convert_to(t.{column:?}::text, 'UTF8')) > 0
             OR t.{column:?}::text LIKE '%' || encode($1, 'hex') || '%'"
        );
        let count: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(asked))
            .bind(what.as_bytes())
            .fetch_one(pool)
            .await
            .unwrap();
        if count > 0 {
            found.push(format!("{table}.{column}"));
        }
    }
    found
}

#[tokio::test]
async fn nothing_of_a_user_is_left_and_everything_of_the_others_is() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().to_owned();
    let house = hearing(House::with(move |config| config.workspace_root = root).await).await;
    let answer = |_| async { json(200, r#"{"said":"result-canary"}"#) };
    let (upstream, large) = (
        Upstream::new(answer).await,
        Upstream::new(|_| async {
            json(200, &format!(r#"{{"said":"file-canary {}"}}"#, "x".repeat(100_000)))
        })
        .await,
    );
    house.add_with(read_only(posting("tool", &upstream.url)), keeping(CacheSettings::default()));
    house.add(posting("large", &large.url));
    let asked = ExecuteRequest {
        request_id: "r1".into(),
        task_id: "job".into(),
        ..request("tool", r#"{"q":"arguments-canary"}"#)
    };
    let first = call_for(&house, USER, asked.clone()).await;
    let other = call_for(&house, "bob", request("tool", r#"{"q":"of bob"}"#)).await;
    let kept =
        call_for(&house, USER, ExecuteRequest { task_id: "job".into(), ..request("large", "{}") }).await;
    let file = folder.path().join(format!("team/job/artifacts/{}.json", kept.id));
    assert!(file.exists());
    until(async || house.number("SELECT count(*) FROM executor.outbox").await == 0).await;
    assert!(!holds(&house.database, "arguments-canary").await.is_empty(), "the search finds what is there");

    let erasure = types::new_id();
    let done = erase(&house, USER, erasure).await;
    assert_eq!((done.executions, done.artifacts), (2, 1));
    assert!(done.cached >= 2, "of the whole team: {done:?}");
    for canary in [USER, "arguments-canary", "result-canary", "file-canary"] {
        let found = holds(&house.database, canary).await;
        // What a tool told to one user it told to the other, too.
        let found: Vec<_> = found.iter().filter(|_| canary != "result-canary").collect();
        assert!(found.is_empty(), "{canary}: {found:?}");
    }
    assert!(!file.exists());
    let gone = get(&house, &first.id).await;
    assert!(
        gone.erased && gone.arguments_json.is_empty() && gone.result_json.is_empty() && gone.user.is_empty()
    );
    assert_eq!(
        (gone.status(), gone.tool_name.as_str()),
        (ExecutionStatus::Succeeded, "tool"),
        "that it was stays"
    );
    let left = get(&house, &other.id).await;
    assert!(
        !left.erased && left.arguments_json.contains("of bob") && left.result_json.contains("result-canary")
    );
    // The same erasure again counts nothing twice; the cache is empty; its request id is of nobody.
    assert_eq!(erase(&house, USER, erasure).await, done);
    let again = call_for(&house, "bob", request("tool", r#"{"q":"of bob"}"#)).await;
    assert_ne!(again.source(), Source::Cache);
    house.execute_as(&for_user(USER), PATIENCE, asked).await.unwrap_err();
    // Who comes back is served, and may be erased again.
    let back = call_for(&house, USER, request("tool", r#"{"q":"new"}"#)).await;
    assert_eq!((back.user.as_str(), back.erased), (USER, false));
    assert_eq!(erase(&house, USER, types::new_id()).await.executions, 1);
}

#[tokio::test]
async fn a_waiting_call_of_an_erased_user_is_cancelled_and_never_runs() {
    let (house, held) = (House::with(|config| config.worker_pool = 1).await, Held::new().await);
    house.add(posting("slow", &held.upstream.url));
    let blocking = start_for(&house, "bob", later("slow", "{}")).await;
    held.reached().await;
    let queued = start_for(&house, USER, later("slow", r#"{"q":"canary"}"#)).await;
    house.fakes.ask_for_approvals();
    let waiting = StartExecutionRequest { wait_for_approval: true, ..later("slow", r#"{"q":"canary"}"#) };
    let waiting = start_for(&house, USER, waiting).await;
    assert_eq!(waiting.status(), ExecutionStatus::WaitingForApproval);
    *house.fakes.denial.lock().unwrap() = None;
    let done = erase(&house, USER, types::new_id()).await;
    assert_eq!(done.executions, 2);
    held.go();
    until(async || get(&house, &blocking.id).await.status() == ExecutionStatus::Succeeded).await;
    for id in [&queued.id, &waiting.id] {
        assert_eq!(get(&house, id).await.status(), ExecutionStatus::Cancelled);
    }
    assert_eq!(
        house
            .number("SELECT (SELECT count(*) FROM executor.job) + (SELECT count(*) FROM executor.awaiting)")
            .await,
        0
    );
    assert_eq!(held.upstream.hits(), 1, "only the call of another user ran");
    // The trail is told that they ended, and not whose they were.
    until(async || house.fakes.trail().len() == 3).await;
    let told = format!("{:?}", house.fakes.trail());
    assert!(!told.contains(USER) && !told.contains("canary"), "{told}");
}

#[tokio::test]
async fn what_a_running_call_brings_in_late_is_not_kept() {
    let (house, held) = (House::new().await, Held::new().await);
    house.add(posting("tool", &held.upstream.url));
    let running = start_for(&house, USER, later("tool", r#"{"q":"canary"}"#)).await;
    held.reached().await;
    let erasure = types::new_id();
    let open = erase_once(&house, USER, erasure, Utc::now()).await;
    assert!(!open.done && open.executions == 0, "it still runs: {open:?}");
    assert!(holds(&house.database, "canary").await.is_empty());
    assert_eq!(house.number("SELECT count(*) FROM executor.job").await, 0, "nobody runs it again");
    held.go();
    until(async || get(&house, &running.id).await.status() == ExecutionStatus::Succeeded).await;
    assert_eq!(
        house.texts("SELECT result_json FROM executor.execution").await,
        [""],
        "not even for a moment"
    );
    let done = erase(&house, USER, erasure).await;
    assert_eq!(done.executions, 1);
    assert!(holds(&house.database, USER).await.is_empty());
}

#[tokio::test]
async fn every_process_deletes_the_files_of_its_own_workspace() {
    let database = testkit::database(&[crate::schema()]).await;
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let house = |folder: &tempfile::TempDir| {
        let root = folder.path().to_owned();
        House::on(&database, Fakes::default(), move |config| config.workspace_root = root)
    };
    let [one, other] = [house(&folders[0]), house(&folders[1])];
    let upstream = Upstream::new(|_| async { json(200, &format!("\"{}\"", "x".repeat(100_000))) }).await;
    other.add(posting("large", &upstream.url));
    let kept =
        call_for(&other, USER, ExecuteRequest { task_id: "job".into(), ..request("large", "{}") }).await;
    let file = folders[1].path().join(format!("team/job/artifacts/{}.json", kept.id));
    assert!(file.exists());
    let done = erase(&one, USER, types::new_id()).await;
    assert!(!file.exists() && done.artifacts == 1, "{done:?}");
}

#[tokio::test]
async fn a_call_that_is_recorded_late_is_erased_before_all_is_called_done() {
    let (house, upstream) = (House::new().await, Upstream::well().await);
    house.add(posting("tool", &upstream.url));
    let late = call_for(&house, "bob", request("tool", r#"{"q":"canary"}"#)).await;
    let (erasure, before) = (types::new_id(), Utc::now() + TimeDelta::seconds(1));
    let open = erase_once(&house, USER, erasure, before).await;
    assert!(!open.done && open.executions == 0, "calls may still come: {open:?}");
    // As if its intent had taken so long from its stamp to its row.
    sqlx::query("UPDATE executor.execution SET user_id = $1")
        .bind(USER)
        .execute(house.database.pool().unwrap())
        .await
        .unwrap();
    assert_eq!(erase_before(&house, USER, erasure, before).await.executions, 1);
    assert!(get(&house, &late.id).await.erased);
}

#[tokio::test]
async fn a_file_that_cannot_be_deleted_keeps_none_of_the_others() {
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let root = folder.path().to_owned();
    let house = House::with(move |config| config.workspace_root = root).await;
    let upstream = Upstream::new(|_| async { json(200, &format!("\"{}\"", "x".repeat(100_000))) }).await;
    house.add(posting("large", &upstream.url));
    let mut files = Vec::new();
    for task in ["stuck", "folder", "plain"] {
        let asked = ExecuteRequest { task_id: task.into(), ..request("large", "{}") };
        let user = if task == "stuck" { USER } else { "bob" };
        let kept = call_for(&house, user, asked).await;
        files.push(folder.path().join(format!("team/{task}/artifacts/{}.json", kept.id)));
    }
    // Where no deletion may follow it.
    std::fs::rename(files[0].parent().unwrap(), elsewhere.path().join("kept")).unwrap();
    std::os::unix::fs::symlink(elsewhere.path().join("kept"), files[0].parent().unwrap()).unwrap();
    std::fs::remove_file(&files[1]).unwrap();
    std::fs::create_dir(&files[1]).unwrap();
    std::fs::write(files[1].join("inside"), "x").unwrap();
    let (stuck, before) = (types::new_id(), Utc::now());
    let open = erase_once(&house, USER, stuck, before).await;
    assert_eq!((open.executions, open.artifacts, open.done), (1, 0, false));
    let done = erase(&house, "bob", types::new_id()).await;
    assert_eq!((done.executions, done.artifacts), (2, 2));
    assert!(files[0].exists() && !files[1].exists() && !files[2].exists());
    assert!(!erase_once(&house, USER, stuck, before).await.done, "what is there is never called deleted");
}

#[tokio::test]
async fn intents_are_listed_in_pages_and_by_id_and_tell_whether_they_ended() {
    let (house, held) = (House::new().await, Held::new().await);
    let upstream = Upstream::well().await;
    house.add(posting("tool", &upstream.url));
    house.add(posting("held", &held.upstream.url));
    let mut ids = Vec::new();
    for _ in 0..4 {
        ids.push(execution(house.execute(request("tool", "{}")).await).id);
    }
    ids.push(start_for(&house, USER, later("held", "{}")).await.id);
    held.reached().await;
    let team = || ListIntentsRequest { team_id: TEAM.into(), page_size: 2, ..ListIntentsRequest::default() };
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let page = list(&house, ListIntentsRequest { after_execution_id: after, ..team() }).await.unwrap();
        after = page.intents.last().unwrap().execution_id.clone();
        seen.extend(page.intents);
        if !page.more {
            break;
        }
    }
    assert_eq!(seen.iter().map(|intent| intent.execution_id.clone()).collect::<Vec<_>>(), ids);
    let ended: Vec<_> = seen.iter().map(|intent| (intent.ended, intent.latest_end_time.is_some())).collect();
    assert_eq!(ended, [(true, false), (true, false), (true, false), (true, false), (false, true)]);
    let of = |ids: Vec<String>| ListIntentsRequest { execution_ids: ids, ..team() };
    let unknown = types::new_id().to_string();
    let found = list(&house, of(vec![ids[4].clone(), unknown, ids[0].clone()])).await.unwrap();
    assert_eq!(
        found.intents.iter().map(|intent| &intent.execution_id).collect::<Vec<_>>(),
        [&ids[0], &ids[4]]
    );
    let teams = list(&house, ListIntentsRequest::default()).await.unwrap();
    assert_eq!((teams.teams, teams.intents.len()), (vec![TEAM.to_owned()], 0));
    list(&house, of(vec!["x".into()])).await.unwrap_err();
    list(&house, of(vec![types::new_id().to_string(); 1_001])).await.unwrap_err();
    held.go();
}
