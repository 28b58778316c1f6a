//! `toolcrib up`: everything on one machine, with a private database; nothing leaves the machine.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    time::{Duration, Instant},
};

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use secrecy::SecretString;
use store::{Database, LocalCluster, LocalOptions};
use tokio_util::sync::CancellationToken;

use crate::{
    cli::{self, UpArgs},
    config::{Roles, Settings},
    data::{self, Data},
    serve, wire,
};

/// The team of a private installation, and its agent.
const TEAM: &str = "dev";
const AGENT: &str = "dev";
const SPECIALIZATION: &str = "Technical Executor";
const DATABASE: &str = "toolcrib";

/// Starts everything, says what to try, and stops it all on SIGTERM or SIGINT.
pub async fn run(args: UpArgs) -> anyhow::Result<()> {
    let mut settings = Settings::load(args.config.as_ref())?;
    let folder = args.data.unwrap_or_else(data::locate);
    let data = Data::open(&folder)?;
    let mut steps = Steps::new();
    let cluster = steps.run("PostgreSQL", start_cluster(&data)).await?;
    // Only now: while another process has the database, the address is that one's.
    data.withdraw_address();
    configure(&mut settings, &data, &cluster, args.listen)?;
    let settings = settings.checked(&Roles::all())?;
    let telemetry = telemetry::start(&settings.telemetry, "all")?;
    steps.run("schema, tools and the first key", Box::pin(prepare(&settings, &data))).await?;
    let node = steps.run("registry, selector, executor, permissions, audit, edge", async {
        wire::start(&settings, &Roles::all()).await
    });
    let node = node.await?;
    let address = node.addresses.values().next().copied().context("the edge has no address")?;
    let address = if settings.edge.tls.is_set() { format!("https://{address}") } else { address.to_string() };
    data.publish_address(&address)?;
    steps.done();
    cli::say(&welcome(&data, &address));
    let stop = CancellationToken::new();
    let supervisor = tokio::spawn(supervise(cluster, data.clone(), stop.clone()));
    let end = serve::until_told_to_stop(node, settings.server.drain_timeout()).await;
    data.withdraw_address();
    stop.cancel();
    supervisor.await?;
    tokio::task::spawn_blocking(|| telemetry.shutdown()).await?;
    end
}

/// Starts the database again when it ends by itself, until told to stop it. Calls meanwhile get UNAVAILABLE.
async fn supervise(mut cluster: LocalCluster, data: Data, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = cluster.ended() => tracing::error!("PostgreSQL ended by itself; starting it again"),
            () = stop.cancelled() => return cluster.stop().await,
        }
        cluster = loop {
            match start_cluster(&data).await {
                Ok(cluster) => break cluster,
                // Processes of the dead server may hold its memory for a moment.
                Err(error) => tracing::warn!(error = format!("{error:#}"), "PostgreSQL does not start yet"),
            }
            tokio::select! {
                () = tokio::time::sleep(Duration::from_secs(1)) => {}
                () = stop.cancelled() => return,
            }
        };
        tracing::info!("PostgreSQL is back");
    }
}

async fn start_cluster(data: &Data) -> anyhow::Result<LocalCluster> {
    let options = LocalOptions { directory: data.path("postgres"), fsync: true };
    let cluster = LocalCluster::start(&options).await?;
    cluster.create_database(DATABASE, "template0").await?;
    Ok(cluster)
}

/// The settings that a private installation makes itself; all others are those of file and environment.
fn configure(
    settings: &mut Settings,
    data: &Data,
    cluster: &LocalCluster,
    listen: Option<std::net::SocketAddr>,
) -> anyhow::Result<()> {
    let (token_key, pepper) = data.secrets()?;
    settings.security.caller_token_key = Some(token_key);
    settings.security.api_key_pepper = Some(pepper);
    settings.database.url = Some(cluster.url(DATABASE));
    settings.edge.listen = listen.unwrap_or(settings.edge.listen);
    // Whoever starts this is the one who adds servers, and could run their programs anyway.
    if settings.mcp.stdio_commands.is_empty() {
        settings.mcp.stdio_commands = mcp::Commands::any();
    }
    let credentials = &mut settings.registry.credentials;
    if credentials.key_file.as_os_str().is_empty() {
        credentials.key_file = data.credential_keys()?;
    }
    if credentials.source_root.as_os_str().is_empty() {
        credentials.source_root = data.credential_sources(TEAM)?;
    }
    if settings.audit.key_file.as_os_str().is_empty() {
        settings.audit.key_file = data.audit_keys()?;
    }
    if settings.audit.signing_key_file.as_os_str().is_empty() {
        settings.audit.signing_key_file = data.signing_key()?;
    }
    settings.executor.workspace_root = data.path("workspaces");
    settings.executor.sandbox.work_root = data.path("sandbox");
    // Programs run as another user where we are root: they pass through both folders and list neither.
    for folder in [&settings.executor.workspace_root, &settings.executor.sandbox.work_root] {
        let made = fs::create_dir_all(folder)
            .and_then(|()| fs::set_permissions(folder, fs::Permissions::from_mode(0o711)));
        made.with_context(|| format!("{} cannot be made", folder.display()))?;
    }
    Ok(())
}

/// Schemas, seeded tools, first team and a key that is valid; a second start changes nothing.
async fn prepare(settings: &Settings, data: &Data) -> anyhow::Result<()> {
    let url = settings.database.url.as_ref().context("the database has no URL")?;
    let database = Database::new(url, 4)?;
    serve::migrate_all(&database).await?;
    if kept_key_is_valid(settings, data, &database).await? {
        registry::seed(&database, TEAM).await?;
    } else {
        let key: SecretString = serve::bootstrap(&database, settings, TEAM, AGENT, SPECIALIZATION).await?;
        data.keep_key(&key)?;
    }
    database.close().await;
    Ok(())
}

async fn kept_key_is_valid(settings: &Settings, data: &Data, database: &Database) -> anyhow::Result<bool> {
    let Some(key) = data.key() else { return Ok(false) };
    let keys = permissions::Keys::new(&settings.security.pepper()?, &settings.security.environment);
    Ok(permissions::key_is_valid(database, &keys, &key).await?)
}

/// The steps of a start, with their times, so that no one wonders what takes long.
struct Steps {
    started: Instant,
}

impl Steps {
    fn new() -> Self {
        Self { started: Instant::now() }
    }

    async fn run<T>(
        &mut self,
        what: &'static str,
        step: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        let started = Instant::now();
        let bar = ProgressBar::new_spinner().with_message(what);
        if let Ok(style) = ProgressStyle::with_template("  {spinner} {msg} {elapsed}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(120));
        let done = step.await;
        bar.finish_and_clear();
        let mark = if done.is_ok() { "✓" } else { "✗" };
        cli::warn(&format!("  {mark} {what} ({:.1} s)", started.elapsed().as_secs_f64()));
        done
    }

    fn done(&self) {
        cli::warn(&format!("  ready after {:.1} s", self.started.elapsed().as_secs_f64()));
    }
}

/// What to try next; every line works when pasted.
fn welcome(data: &Data, address: &str) -> String {
    let program =
        std::env::current_exe().map_or_else(|_| "toolcrib".to_owned(), |path| path.display().to_string());
    let at = if data.folder() == data::locate() {
        String::new()
    } else {
        format!(" --address {address} --api-key-file {}", data.path("dev.key").display())
    };
    format!(
        "
toolcrib listens on {address}; data in {folder}. Ctrl-C stops it, database included.

Try in another terminal, in this folder:

  alias toolcrib='{program}{at}'
  toolcrib tools list
  toolcrib select \"run a python program\"
  toolcrib call python_sandbox code='print(sum(range(10)))'
  toolcrib call file_operations operation=write path=hello.txt content='hello' --task demo
  toolcrib executions list
  toolcrib audit trail
",
        folder = data.folder().display()
    )
}
