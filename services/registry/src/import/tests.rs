//! Imports take turns, and hold nobody up while they are compared with the catalog.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt;

use super::*;
use crate::{
    definition::{Builtin, Http},
    register::{self, SettingsPlan},
};

#[test]
fn imports_take_turns() {
    let turns = Turns::default();
    let mut held: Vec<Turn> =
        (0..AT_ONCE).map(|_| turns.clone().next().now_or_never().expect("there is room")).collect();
    assert!(turns.next().now_or_never().is_none());
    held.pop();
    assert!(turns.next().now_or_never().is_some());
}

/// So many tools of provider `api`.
fn checked(count: usize) -> Vec<Checked> {
    let proposal = |name: &str| Proposal {
        name: name.to_owned(),
        description: "Reads it.".into(),
        input_schema: r#"{"type":"object"}"#.into(),
        binding: Some(Binding::Http(Http::new("GET", "https://api.example.com/"))),
        provider: "api".into(),
        ..Proposal::default()
    };
    let candidate = |number: usize| {
        let name = format!("api.t{number}");
        let proposal = Ok(Defaults::default().fill(proposal(&name)));
        Candidate { source: format!("GET /{number}"), name, proposal, notes: vec![] }
    };
    check_all((0..count).map(candidate).collect()).unwrap()
}

async fn database() -> Database {
    testkit::database(&[crate::schema()]).await
}

/// A proposal of somebody else for one of these names.
fn taken(name: &str) -> Proposal {
    let binding = Some(Binding::Builtin(Builtin { name: "echo".into() }));
    let (name, description) = (name.to_owned(), "Is somebody else's.".to_owned());
    let input_schema = r#"{"type":"object"}"#.to_owned();
    let proposal = Proposal {
        name,
        description,
        input_schema,
        binding,
        provider: "people".into(),
        ..Proposal::default()
    };
    Defaults::default().fill(proposal)
}

async fn register(database: &Database, proposal: Proposal) {
    let own = trail::own("team");
    let registered = register::register(database, &own, proposal, SettingsPlan::Keep);
    let registered = tokio::time::timeout(Duration::from_secs(30), registered).await;
    registered.expect("nobody holds the lock").unwrap();
}

#[tokio::test]
async fn others_write_while_an_import_is_compared_and_what_they_wrote_stays() {
    let database = database().await;
    let (entered, mut is_in) = tokio::sync::mpsc::unbounded_channel();
    let (go, may_go) = std::sync::mpsc::channel::<()>();
    let may_go = Arc::new(Mutex::new(may_go));
    let decide = move |catalog: &Catalog, checked: &[Checked]| {
        entered.send(()).unwrap();
        may_go.lock().unwrap().recv().unwrap();
        plan::decide(catalog, checked)
    };
    let import = tokio::spawn({
        let database = database.clone();
        async move {
            let turn = Turns::default().next().await;
            settle(&database, &trail::own("team"), (turn, checked(300)), false, decide).await.unwrap()
        }
    });
    is_in.recv().await.unwrap();
    register(&database, taken("api.t7")).await;
    go.send(()).unwrap();
    is_in.recv().await.expect("it is compared with what changed meanwhile");
    register(&database, taken("other")).await;
    go.send(()).unwrap();

    let imported = import.await.unwrap();
    assert!(is_in.recv().await.is_none(), "what it does not name is no reason to compare again");
    let refused: Vec<&Imported> = imported.iter().filter(|it| it.outcome != Outcome::Created).collect();
    assert_eq!((imported.len(), refused.len()), (300, 1));
    assert!(refused[0].name == "api.t7" && refused[0].note.contains("people"), "{refused:?}");
    let pool = database.pool().unwrap();
    let tool = store::tool_find(pool, "team", "api.t7").await.unwrap().unwrap();
    assert_eq!(tool.definition().unwrap().description, "Is somebody else's.");
    assert!(store::tool_find(pool, "team", "api.t299").await.unwrap().is_some());
}

#[tokio::test]
async fn an_import_ends_though_the_catalog_never_rests() {
    let database = database().await;
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let (number, others) = (Arc::new(AtomicU32::new(0)), database.clone());
    let decide = move |catalog: &Catalog, checked: &[Checked]| {
        let write = async {
            let lock = sqlx::query("SELECT FROM registry.revision FOR UPDATE NOWAIT");
            let is_free = lock.execute(others.pool().unwrap()).await.is_ok();
            if is_free {
                let number = number.fetch_add(1, Ordering::Relaxed);
                register(&others, taken(&format!("api.t{number}"))).await;
            }
            is_free
        };
        tell.send(tokio::runtime::Handle::current().block_on(write)).unwrap();
        plan::decide(catalog, checked)
    };
    let turn = Turns::default().next().await;
    let imported = settle(&database, &trail::own("team"), (turn, checked(10)), false, decide).await.unwrap();
    let mut rounds = Vec::new();
    told.recv_many(&mut rounds, 100).await;
    assert_eq!(rounds, [true, true, true, false], "the last is decided under the lock");
    assert_eq!(imported.len(), 10);
}
