//! A bucket of a real object store as the second place of checkpoints: what reaches it, and what is told while the
//! bucket or the store is away.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use node::config::Settings;
use proto::audit::v1::{GetCheckpointRequest, GetTrailHealthRequest, GetTrailHealthResponse};
use serde_json::json;
use tests::{Client, HttpTool, Mode, Suite, Upstream, eventually};

tests::scenarios_alone! {
    checkpoints_reach_a_bucket_and_what_was_missed_is_caught_up_with,
}

const INSTALL: &str = "scripts/install-sample-servers";
const SERVER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/servers/s3/server.py");
/// Never told, wherever the place is named.
const SECRET: &str = "canary-of-the-bucket-0815";

/// The object store; it ends with this value, and forgets what it held.
struct Store {
    process: Child,
    asked: ChildStdin,
    told: BufReader<ChildStdout>,
    port: u16,
}

impl Store {
    /// On a port of its own with 0.
    fn start(port: u16) -> Option<Self> {
        let python = testkit::installed("s3-server/bin/python", INSTALL)?;
        let mut command = Command::new(python);
        command.arg(SERVER).arg(port.to_string());
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = piped.spawn().unwrap();
        let asked = process.stdin.take().unwrap();
        let mut told = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        told.read_line(&mut line).unwrap();
        Some(Self { process, asked, told, port: line.trim().parse().unwrap() })
    }

    /// Every object of a bucket by its key; `None` without the bucket.
    fn objects(&mut self, bucket: &str) -> Option<BTreeMap<String, String>> {
        writeln!(self.asked, "{bucket}").unwrap();
        let mut line = String::new();
        self.told.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    fn make(&mut self, bucket: &str) {
        assert!(self.objects(&format!("+{bucket}")).is_some());
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

async fn checkpoints_reach_a_bucket_and_what_was_missed_is_caught_up_with(mode: Mode) {
    let Some(mut store) = Store::start(0) else { return };
    let port = store.port;
    let edit = |settings: &mut Settings| {
        let checkpoints = &mut settings.audit.checkpoints;
        checkpoints.places = vec!["s3://kept/trail".to_owned()];
        checkpoints.copy_interval_s = 1;
        checkpoints.s3.endpoint = format!("http://127.0.0.1:{port}");
        checkpoints.s3.allow_http = true;
        checkpoints.s3.access_key_id = Some("crib".into());
        checkpoints.s3.secret_access_key = Some(SECRET.into());
    };
    let suite = Suite::start_with(mode, edit).await;
    let upstream = Upstream::start().await;
    let agent = suite.agent_with(HttpTool::new("kept", upstream.url("/echo"))).await;
    agent.call("kept", json!({})).await;
    let told = unwell(&suite.admin).await;
    assert!(told.contains("kept") && !told.contains(SECRET), "the missing bucket is named: {told}");

    store.make("kept");
    let first = is_kept(&suite.admin, &mut store).await;
    drop(store);
    agent.call("kept", json!({"q": 2})).await;
    let told = unwell(&suite.admin).await;
    assert!(told.contains("s3://kept/trail") && !told.contains(SECRET), "{told}");
    let mut store = Store::start(port).unwrap();
    store.make("kept");
    assert!(is_kept(&suite.admin, &mut store).await > first);
    suite.stop().await;
}

async fn health(admin: &Client) -> GetTrailHealthResponse {
    admin.audit().get_trail_health(GetTrailHealthRequest {}).await.unwrap().into_inner()
}

/// What is told of the place once it takes nothing.
async fn unwell(admin: &Client) -> String {
    eventually("health tells", async || {
        let health = health(admin).await;
        (!health.healthy && !health.places[0].failure.is_empty()).then(|| format!("{health:?}"))
    })
    .await
}

/// Waits until the bucket holds the newest checkpoint under its size and as the latest; gives the size.
async fn is_kept(admin: &Client, store: &mut Store) -> i64 {
    let size = eventually("the newest checkpoint is in the bucket", async || {
        let request = GetCheckpointRequest { size: 0 };
        let newest = admin.audit().get_checkpoint(request).await.ok()?.into_inner();
        let objects = store.objects("kept").unwrap();
        let numbered = objects.get(&format!("trail/crew/{:020}.checkpoint", newest.size));
        let latest = objects.get("trail/crew/latest");
        (numbered == Some(&newest.checkpoint) && latest == numbered).then_some(newest.size)
    })
    .await;
    eventually("all is well", async || health(admin).await.healthy.then_some(())).await;
    size
}
