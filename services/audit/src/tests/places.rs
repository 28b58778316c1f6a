//! Second places of checkpoints: real folders and a real HTTP server, and what is done when they contradict the database.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ::store::Database;
use reach::Authorities;
use testkit::{Authority, TlsRequest, TlsServer};
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::trees::{Keys, Process, append, meddle, settings};
use crate::{
    Checkpoints,
    checkpoints::{self, Standing},
    config::{CheckpointConfig, OnFailure},
    health,
    store::{self, tree_get},
};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// The couriers of one process, as long as they are wanted.
struct Couriers {
    _tasks: JoinSet<()>,
    _office: watch::Sender<bool>,
}

fn couriers(database: &Database, checkpoints: &Checkpoints) -> Couriers {
    let (office, in_office) = watch::channel(true);
    let (mut tasks, stop) = (JoinSet::new(), CancellationToken::new());
    for place in checkpoints.places() {
        let (checkpoints, database, place) = (checkpoints.clone(), database.clone(), Arc::clone(place));
        tasks.spawn(checkpoints::keep(checkpoints, database, place, in_office.clone(), stop.clone()));
    }
    tasks.spawn(checkpoints::survey(checkpoints.clone(), database.clone(), in_office, stop.clone()));
    tasks.spawn(health::follow(checkpoints.clone(), database.clone(), stop));
    Couriers { _tasks: tasks, _office: office }
}

async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let waited = tokio::time::timeout(PATIENCE, async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    assert!(waited.await.is_ok(), "it is never so that {what}");
}

fn with_places(places: &[String]) -> CheckpointConfig {
    CheckpointConfig { places: places.to_vec(), ..settings() }
}

fn directory(path: &Path) -> String {
    format!("dir:{}", path.display())
}

async fn copied(database: &Database, place: &str, team: &str) -> i64 {
    let rows = store::place_list(database.pool().unwrap(), team, &[place.to_owned()]).await.unwrap();
    rows.first().and_then(|row| row.copied_size).unwrap_or(0)
}

async fn failure(database: &Database, place: &str) -> String {
    let rows = store::place_list(database.pool().unwrap(), "", &[place.to_owned()]).await.unwrap();
    rows.first().map_or_else(String::new, |row| row.failure.clone())
}

#[tokio::test]
async fn checkpoints_reach_a_folder_whole_and_stay_there() {
    let database = testkit::database(&[crate::schema()]).await;
    let (keys, folder) = (Keys::new(), tempfile::tempdir().unwrap());
    let place = directory(folder.path());
    let checkpoints = keys.checkpoints(with_places(std::slice::from_ref(&place)));
    let mut process = Process::start(&database, &checkpoints).await;
    let _couriers = couriers(&database, &checkpoints);
    let mut notes = Vec::new();
    for size in [3, 7] {
        append(&database, "a/b", if size == 3 { 3 } else { 4 }).await;
        process.sequence().await;
        eventually("the copy is there", async || copied(&database, &place, "a/b").await == size).await;
        notes.push((size, tree_get(database.pool().unwrap(), "a/b").await.unwrap().unwrap().checkpoint));
    }
    let team = folder.path().join("a%2Fb");
    for (size, note) in &notes {
        assert_eq!(fs::read_to_string(team.join(format!("{size:020}.checkpoint"))).unwrap(), *note);
    }
    assert_eq!(fs::read_to_string(team.join("latest")).unwrap(), notes[1].1);
    assert_eq!(keys.signer().open(&notes[1].1).unwrap().size, 7);
    assert_eq!(fs::read_dir(&team).unwrap().count(), 3, "nothing half-written is left");
}

#[tokio::test]
async fn a_folder_that_is_missing_or_full_is_told_and_caught_up_with() {
    let database = testkit::database(&[crate::schema()]).await;
    let (keys, folder) = (Keys::new(), tempfile::tempdir().unwrap());
    let missing = folder.path().join("mount");
    let place = directory(&missing);
    let config = CheckpointConfig {
        on_failure: OnFailure::Block,
        block_after_s: 5,
        ..with_places(std::slice::from_ref(&place))
    };
    fs::create_dir(&missing).unwrap();
    let checkpoints = keys.checkpoints(config);
    let mut process = Process::start(&database, &checkpoints).await;
    let _couriers = couriers(&database, &checkpoints);
    append(&database, "team", 1).await;
    process.sequence().await;
    eventually("the copy is there", async || copied(&database, &place, "team").await == 1).await;
    let mut well = checkpoints.watch();
    eventually("all is well", async || well.is_well()).await;

    fs::rename(&missing, folder.path().join("away")).unwrap();
    let began = std::time::Instant::now();
    eventually("health tells", async || !well.is_well()).await;
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    let told = health::trail_health(&checkpoints, &database, "team").await.unwrap();
    assert!(told.places[0].failure.contains("not there"), "{told:?}");
    assert!(told.faults[0].contains(&place), "{told:?}");
    assert!(!checkpoints.is_blocked(), "not yet");
    append(&database, "team", 1).await;
    process.sequence().await;
    eventually("events are refused", async || checkpoints.is_blocked()).await;

    fs::rename(folder.path().join("away"), &missing).unwrap();
    eventually("what was missed is there", async || copied(&database, &place, "team").await == 2).await;
    eventually("all is well again", async || well.is_well() && !checkpoints.is_blocked()).await;
    assert_eq!(failure(&database, &place).await, "");
}

/// A file system of 64 KB, where this process may make one.
struct Small(PathBuf);

impl Small {
    fn mount(path: PathBuf) -> Option<Self> {
        fs::create_dir(&path).unwrap();
        let mut mount = std::process::Command::new("mount");
        let done = mount.args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"]).arg(&path).output();
        done.is_ok_and(|done| done.status.success()).then_some(Self(path))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg(&self.0).output();
    }
}

#[tokio::test]
async fn a_place_whose_disk_is_full_is_told_and_the_checkpoint_that_was_there_stays_whole() {
    let database = testkit::database(&[crate::schema()]).await;
    let (keys, folder) = (Keys::new(), tempfile::tempdir().unwrap());
    let Some(small) = Small::mount(folder.path().join("small")) else {
        return assert!(
            std::env::var_os("CI").is_none(),
            "a small file system cannot be mounted; CI runs as root"
        );
    };
    let place = directory(&small.0);
    let checkpoints = keys.checkpoints(with_places(std::slice::from_ref(&place)));
    let mut process = Process::start(&database, &checkpoints).await;
    let _couriers = couriers(&database, &checkpoints);
    append(&database, "team", 1).await;
    process.sequence().await;
    eventually("the copy is there", async || copied(&database, &place, "team").await == 1).await;
    let latest = fs::read_to_string(small.0.join("team/latest")).unwrap();
    let mut filler = vec![0_u8; 128 * 1024];
    while fs::write(small.0.join("filler"), &filler).is_err() && filler.len() > 1 {
        filler.truncate(filler.len() - 1_024);
    }
    append(&database, "team", 1).await;
    process.sequence().await;
    eventually("it is told", async || failure(&database, &place).await.contains("No space left")).await;
    assert_eq!(fs::read_to_string(small.0.join("team/latest")).unwrap(), latest);
    fs::remove_file(small.0.join("filler")).unwrap();
    eventually("what was missed is there", async || copied(&database, &place, "team").await == 2).await;
}

/// What an HTTP server keeps, and how it is.
#[derive(Default)]
struct Kept {
    files: Mutex<HashMap<String, String>>,
    heads: Mutex<Vec<String>>,
    is_broken: AtomicBool,
}

impl Kept {
    fn answer(&self, request: &TlsRequest) -> (u16, String) {
        self.heads.lock().unwrap().push(request.head.clone());
        if self.is_broken.load(Ordering::Acquire) {
            return (503, String::new());
        }
        let mut words = request.head.split(' ');
        let (method, path) = (words.next().unwrap(), words.next().unwrap().to_owned());
        let mut files = self.files.lock().unwrap();
        match method {
            "PUT" => {
                files.insert(path, request.body.clone());
                (201, String::new())
            }
            _ => files.get(&path).map_or((404, String::new()), |body| (200, body.clone())),
        }
    }
}

#[tokio::test]
async fn checkpoints_reach_an_https_server_of_an_authority_of_ones_own_also_after_it_was_broken() {
    let database = testkit::database(&[crate::schema()]).await;
    let (keys, authority, kept) = (Keys::new(), Authority::new(), Arc::<Kept>::default());
    let answering = Arc::clone(&kept);
    let server =
        TlsServer::start(&authority.issue("localhost"), None, move |request| answering.answer(request));
    let place = server.url("localhost", "/witness");
    let config =
        CheckpointConfig { http_token: Some("t0ken".into()), ..with_places(std::slice::from_ref(&place)) };
    let distrusted = Checkpoints::new(keys.signer(), config.clone(), &Authorities::default()).unwrap();
    let refused = distrusted.places()[0].place.probe(PATIENCE).await.unwrap_err();
    assert!(refused.contains("certificate") || refused.contains("cannot be reached"), "{refused}");
    let authorities = Authorities::of(authority.pem().to_owned()).unwrap();
    let checkpoints = Checkpoints::new(keys.signer(), config, &authorities).unwrap();
    assert!(!format!("{checkpoints:?}{:?}", checkpoints.places()[0].place).contains("t0ken"));
    let mut process = Process::start(&database, &checkpoints).await;
    let _couriers = couriers(&database, &checkpoints);
    append(&database, "team", 3).await;
    process.sequence().await;
    eventually("the copy is there", async || copied(&database, &place, "team").await == 3).await;
    kept.is_broken.store(true, Ordering::Release);
    append(&database, "team", 1).await;
    process.sequence().await;
    eventually("it is told", async || failure(&database, &place).await.contains("503")).await;
    kept.is_broken.store(false, Ordering::Release);
    eventually("the next copy is there", async || copied(&database, &place, "team").await == 4).await;
    let note = tree_get(database.pool().unwrap(), "team").await.unwrap().unwrap().checkpoint;
    let files = kept.files.lock().unwrap().clone();
    assert_eq!(files["/witness/team/latest"], note);
    assert_eq!(files["/witness/team/00000000000000000004.checkpoint"], note);
    assert!(files.contains_key("/witness/team/00000000000000000003.checkpoint"));
    assert!(kept.heads.lock().unwrap().iter().all(|head| head.to_lowercase().contains("bearer t0ken")));
}

/// The database as it was when a backup of it was made.
const BACKUP: &str = "
    CREATE SCHEMA backup;
    CREATE TABLE backup.tree AS SELECT * FROM audit.tree; CREATE TABLE backup.tile AS SELECT * FROM audit.tile;
    CREATE TABLE backup.head AS SELECT * FROM audit.head; CREATE TABLE backup.record AS SELECT * FROM audit.record;
    CREATE TABLE backup.checkpoint AS SELECT * FROM audit.checkpoint;
    CREATE TABLE backup.checkpoint_copy AS SELECT * FROM audit.checkpoint_copy";
const RESTORE: &str = "
    TRUNCATE audit.tree, audit.tile, audit.head, audit.record, audit.checkpoint, audit.checkpoint_copy;
    INSERT INTO audit.tree SELECT * FROM backup.tree; INSERT INTO audit.tile SELECT * FROM backup.tile;
    INSERT INTO audit.head SELECT * FROM backup.head; INSERT INTO audit.record SELECT * FROM backup.record;
    INSERT INTO audit.checkpoint SELECT * FROM backup.checkpoint;
    INSERT INTO audit.checkpoint_copy SELECT * FROM backup.checkpoint_copy";

#[tokio::test]
async fn nothing_is_signed_on_an_old_backup_until_an_operator_gives_up_what_was_signed() {
    let database = testkit::database(&[crate::schema()]).await;
    let (keys, folder) = (Keys::new(), tempfile::tempdir().unwrap());
    let place = directory(folder.path());
    let config = with_places(std::slice::from_ref(&place));
    let size = async || tree_get(database.pool().unwrap(), "team").await.unwrap().unwrap().size;
    let latest = || fs::read_to_string(folder.path().join("team/latest")).unwrap();
    let kept = {
        let checkpoints = keys.checkpoints(config.clone());
        let mut process = Process::start(&database, &checkpoints).await;
        let _couriers = couriers(&database, &checkpoints);
        append(&database, "team", 3).await;
        process.sequence().await;
        meddle(&database, BACKUP).await;
        append(&database, "team", 3).await;
        process.sequence().await;
        eventually("the copy is there", async || copied(&database, &place, "team").await == 6).await;
        latest()
    };
    meddle(&database, RESTORE).await;

    // Another process, on what the backup has; new events come in, fewer and more than there were.
    let checkpoints = keys.checkpoints(config.clone());
    let mut process = Process::start(&database, &checkpoints).await;
    {
        let _couriers = couriers(&database, &checkpoints);
        for new in [1, 9] {
            append(&database, "team", new).await;
            process.sequence().await;
            assert_eq!(size().await, 3, "nothing is signed");
        }
        let mut well = checkpoints.watch();
        eventually("health tells", async || !well.is_well()).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    assert_eq!(latest(), kept, "nothing is written over it");
    assert_eq!(checkpoints.standing("team"), Some(Standing::Contradicted));
    let told = health::trail_health(&checkpoints, &database, "team").await.unwrap().faults.join("\n");
    assert!(told.contains("checkpoint of 6 events and the database has 3"), "{told}");
    let name = told.split('"').nth(1).unwrap().to_owned();
    assert!(name.starts_with("team@6@"), "{told}");
    append(&database, "other", 1).await;
    process.sequence().await;
    assert!(tree_get(database.pool().unwrap(), "other").await.unwrap().is_some(), "other teams go on");
    drop(process);

    let accepting = CheckpointConfig { accept_rollback: vec![name], ..config };
    let checkpoints = keys.checkpoints(accepting);
    let mut process = loop {
        // The server sees the end of the last one a moment later.
        let mut connection = ::store::Kept::durable(&database).take().await.unwrap();
        if let Some(epoch) = store::sequencer_take(&mut connection).await.unwrap() {
            let sequencer = super::trees::sequencer(&database, &checkpoints);
            break Process { sequencer, connection, epoch };
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    process.sequence().await;
    assert_eq!(size().await, 13);
    let _couriers = couriers(&database, &checkpoints);
    eventually("the new one is there", async || copied(&database, &place, "team").await == 13).await;
    assert_ne!(latest(), kept);
    let old = fs::read_to_string(folder.path().join("team/00000000000000000006.checkpoint")).unwrap();
    assert_eq!(old, kept, "what was signed before stays for whoever looks");
    let mut well = checkpoints.watch();
    eventually("all is well", async || well.is_well()).await;
}

const EMPTY: &str = "TRUNCATE audit.head, audit.record, audit.tree, audit.tile, audit.checkpoint, audit.halt, \
    audit.place, audit.checkpoint_copy";

#[tokio::test]
async fn another_history_of_the_same_size_and_a_stranger_in_the_place_are_told() {
    let database = testkit::database(&[crate::schema()]).await;
    let (keys, folder) = (Keys::new(), tempfile::tempdir().unwrap());
    let place = directory(folder.path());
    let config = with_places(std::slice::from_ref(&place));
    let there = folder.path().join("team");
    fs::create_dir(&there).unwrap();
    let strange = Keys::new().signer();
    for (note, is_halted, told) in [
        (
            keys.signer().checkpoint("team", 2, trail::Hash([9; 32])),
            true,
            "another root of the first 2 events",
        ),
        (keys.signer().checkpoint("teem", 2, trail::Hash([9; 32])), true, "checkpoint of toolcrib/teem"),
        (strange.checkpoint("team", 9, trail::Hash([9; 32])), false, "cannot be believed"),
        ("rubbish".to_owned(), false, "cannot be believed"),
    ] {
        meddle(&database, EMPTY).await;
        append(&database, "team", 2).await;
        let mut process = Process::start(&database, &keys.checkpoints(settings())).await;
        process.sequence().await;
        sqlx::query("SELECT pg_advisory_unlock_all()").execute(&mut process.connection).await.unwrap();
        fs::write(there.join("latest"), &note).unwrap();
        append(&database, "team", 1).await;
        let checkpoints = keys.checkpoints(config.clone());
        let mut process = Process::start(&database, &checkpoints).await;
        process.sequence().await;
        let is_signed = tree_get(database.pool().unwrap(), "team").await.unwrap().unwrap().size == 3;
        assert_eq!(is_signed, !is_halted, "{told}");
        {
            let _couriers = couriers(&database, &checkpoints);
            eventually(told, async || {
                let health = health::trail_health(&checkpoints, &database, "team").await.unwrap();
                health.faults.join("\n").contains(told)
            })
            .await;
        }
        assert_eq!(fs::read_to_string(there.join("latest")).unwrap(), note, "it is not written over");
        sqlx::query("SELECT pg_advisory_unlock_all()").execute(&mut process.connection).await.unwrap();
    }
}

#[test]
fn places_that_are_none_are_told_before_anything_starts() {
    for (place, told) in [
        ("/mnt/checkpoints", "dir:/path"),
        ("dir:checkpoints", "absolute"),
        ("ftp://host/x", "dir:/path"),
        ("https://user:hunter2@host/x", "http_token"),
        ("https://host/x?y=z", "query"),
        ("http://host/x", "https://"),
        ("s3:///prefix", "bucket"),
    ] {
        let config =
            CheckpointConfig { http_token: Some("t0ken".into()), ..with_places(&[place.to_owned()]) };
        let wrong = Checkpoints::new(Keys::new().signer(), config, &Authorities::default()).unwrap_err();
        assert!(wrong.contains(told), "{place}: {wrong}");
    }
}
