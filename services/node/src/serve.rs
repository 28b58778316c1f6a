//! `toolcrib serve` and `toolcrib migrate`: a process of a real installation.

use anyhow::Context;
use secrecy::{ExposeSecret, SecretString};
use store::Database;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    cli::{self, MigrateArgs, ServeArgs},
    config::{Role, Roles, Settings},
    wire::{self, Node},
};

/// Name of the agent that `migrate --bootstrap` makes.
const FIRST_AGENT: &str = "admin";
/// Its specialization.
const FIRST_SPECIALIZATION: &str = "Administrator";

/// Serves until SIGTERM or SIGINT.
pub async fn run(args: ServeArgs) -> anyhow::Result<()> {
    let settings = Settings::load(args.config.as_ref())?;
    let roles = if args.roles.is_empty() { settings.roles.clone() } else { args.roles.join(",").parse()? };
    let settings = settings.checked(&roles)?;
    let names: Vec<&str> = roles.0.iter().map(|role| role.as_str()).collect();
    let telemetry = telemetry::start(&settings.telemetry, &names.join(","))?;
    let node = wire::start(&settings, &roles).await?;
    for (role, address) in &node.addresses {
        tracing::info!(role = role.as_str(), %address, "listening");
    }
    let end = until_told_to_stop(node, settings.server.drain_timeout()).await;
    tokio::task::spawn_blocking(|| telemetry.shutdown()).await?;
    end
}

/// Waits for a signal, or for the end of a server; then stops the node in order.
pub(crate) async fn until_told_to_stop(mut node: Node, patience: std::time::Duration) -> anyhow::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let end = tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        error = node.failed() => Err(error),
    };
    tracing::info!("stopping: no new calls, those under way end");
    node.stop(patience).await;
    tracing::info!("stopped");
    end
}

/// Brings every schema up to date, and makes the first team when asked to.
pub async fn migrate(args: MigrateArgs) -> anyhow::Result<()> {
    let settings = Settings::load(args.config.as_ref())?;
    let url = settings.database.url.as_ref().context("database.url is not set (TOOLCRIB__DATABASE__URL)")?;
    let database = Database::new(url, 4).context("database.url is not a URL")?;
    database
        .wait_until_up(std::time::Duration::from_mins(1))
        .await
        .context("the database does not answer")?;
    migrate_all(&database).await?;
    if let Some(team) = args.bootstrap {
        let settings = settings.checked(&Roles([Role::Permissions].into()))?;
        let key = bootstrap(&database, &settings, &team, FIRST_AGENT, FIRST_SPECIALIZATION).await?;
        cli::warn(&format!("team {team}, agent {FIRST_AGENT} (admin); its API key, shown only now:"));
        cli::say(key.expose_secret());
    }
    database.close().await;
    Ok(())
}

/// Brings every schema up to date.
pub(crate) async fn migrate_all(database: &Database) -> anyhow::Result<()> {
    for schema in wire::schemas() {
        schema.migrate(database.pool()?).await?;
        tracing::info!(schema = schema.name(), "migrated");
    }
    Ok(())
}

/// Makes a team with the seeded tools and grants and an admin, and issues the admin's key.
pub async fn bootstrap(
    database: &Database,
    settings: &Settings,
    team: &str,
    agent: &str,
    specialization: &str,
) -> anyhow::Result<SecretString> {
    registry::seed(database, team).await?;
    let keys = permissions::Keys::new(&settings.security.pepper()?, &settings.security.environment);
    let wanted = permissions::Bootstrap {
        team: team.to_owned(),
        agent: agent.to_owned(),
        specialization: specialization.to_owned(),
        tools: registry::BUILTINS.iter().map(ToString::to_string).collect(),
    };
    Ok(permissions::bootstrap(database, &keys, &wanted).await?)
}
