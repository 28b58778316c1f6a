//! One process from its roles: each enabled role is linked in process, each other one by its address.
//! The only place that knows which service calls which.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use anyhow::Context;
use catalog::Catalog;
use executor::SealKey;
use limit::Limiter;
use reach::Authorities;
use rpc::{Later, Link, Outgoing, PageKey, ServerOptions, StackOptions, TokenKey};
use store::{Database, Redis, Schema};
use tokio::task::JoinSet;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::service::Routes;

use crate::{
    config::{Role, Roles, Settings},
    health, ports, redis,
    secured::Secured,
};

/// How long a start waits for the database.
const DATABASE_PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

/// A running process.
#[derive(Debug)]
pub struct Node {
    /// Where each served role listens.
    pub addresses: BTreeMap<Role, SocketAddr>,
    servers: JoinSet<Result<(), rpc::ServeError>>,
    database: Option<Database>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// The schemas of all services.
pub fn schemas() -> [Schema; 5] {
    [audit::schema(), executor::schema(), permissions::schema(), registry::schema(), selector::schema()]
}

/// Starts the roles: ports first, then the database, then each service, then serving.
pub async fn start(settings: &Settings, roles: &Roles) -> anyhow::Result<Node> {
    start_with(settings, roles, executor::start).await
}

/// The same, with an executor that is started in another way from the same parts.
pub async fn start_with(
    settings: &Settings,
    roles: &Roles,
    executor: impl FnOnce(&executor::Config, executor::Parts) -> Result<Routes, executor::Error>,
) -> anyhow::Result<Node> {
    let secured = Secured::read(settings, roles)?;
    let mut bound = ports::bind(settings, roles, &secured).await?;
    let health = match settings.tls.health_address().map_err(anyhow::Error::msg)? {
        Some(address) => Some(rpc::bind(address).await?),
        None => None,
    };
    let parts = Parts::new(settings, roles, secured).await?;
    let links = parts.links(settings, roles, executor).await?;
    let mut node = Node {
        addresses: bound.iter().map(|(role, bound)| (*role, bound.address)).collect(),
        servers: JoinSet::new(),
        database: parts.database.clone(),
        tasks: parts.tasks.clone(),
        stop: parts.stop.clone(),
    };
    for (role, link) in links {
        let Some(bound) = bound.remove(&role) else { continue };
        let options = ServerOptions {
            accept_http1: role == Role::Edge,
            max_connection_age: std::time::Duration::from_secs(settings.server.max_connection_age_s),
        };
        let (readiness, server) = rpc::serve(bound, link, &options, parts.stop.clone().cancelled_owned())?;
        health::report(settings, roles, role, readiness, &parts).await?;
        node.servers.spawn(server);
    }
    if let Some(bound) = health {
        let (readiness, server) = rpc::serve_health(bound, parts.stop.clone().cancelled_owned());
        readiness.set("", true).await;
        for (_, service) in health::services().into_iter().filter(|(role, _)| roles.has(*role)) {
            health::report_own(service, readiness.clone(), &parts)?;
        }
        health::report_checkpoints(readiness, &parts);
        node.servers.spawn(server);
    }
    Ok(node)
}

impl Node {
    /// Resolves when a server ends by itself, which none should.
    pub async fn failed(&mut self) -> anyhow::Error {
        match self.servers.join_next().await {
            Some(Ok(Err(error))) => error.into(),
            Some(Err(error)) => error.into(),
            Some(Ok(Ok(()))) => anyhow::anyhow!("a server ended"),
            None => std::future::pending().await,
        }
    }

    /// Stops: no new calls, those under way end and are recorded, events are delivered, connections close.
    pub async fn stop(mut self, patience: std::time::Duration) {
        self.stop.cancel();
        self.tasks.close();
        let ended = async {
            self.tasks.wait().await;
            while self.servers.join_next().await.is_some() {}
        };
        if tokio::time::timeout(patience, ended).await.is_err() {
            tracing::warn!(
                "calls were cut off by the end of the process; the next start closes them as unknown"
            );
        }
        if let Some(database) = self.database {
            // Connections that are cut off need not be waited for.
            let _ = tokio::time::timeout(std::time::Duration::from_secs(2), database.close()).await;
        }
    }
}

/// What the services of one process share.
pub(crate) struct Parts {
    database: Option<Database>,
    key: TokenKey,
    pages: PageKey,
    stack: StackOptions,
    redis: Option<Redis>,
    limiter: Limiter,
    authorities: Authorities,
    pub(crate) secured: Secured,
    redaction: Arc<redact::Redaction>,
    /// Where audit runs.
    pub(crate) checkpoints: Option<audit::Checkpoints>,
    /// Where selector or executor runs.
    pub(crate) catalog: std::sync::OnceLock<Catalog>,
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
}

impl Parts {
    async fn new(settings: &Settings, roles: &Roles, secured: Secured) -> anyhow::Result<Self> {
        let secret =
            settings.security.caller_token_key.as_ref().context("security.caller_token_key is not set")?;
        let key = TokenKey::new(secret);
        let authorities = settings.tls.authorities().map_err(anyhow::Error::msg)?;
        let needs_database = roles.0.iter().any(|role| *role != Role::Edge);
        let database = if needs_database { Some(database(settings, roles).await?) } else { None };
        let stack = StackOptions {
            key: key.clone(),
            max_concurrent_requests: settings.server.max_concurrent_requests,
        };
        let pages = PageKey::new(secret);
        let redis = redis::connect(&settings.redis)?;
        let limiter = redis::limiter(settings, redis.as_ref());
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        secured.keep_fresh(&tasks, &stop);
        let checkpoints =
            roles.has(Role::Audit).then(|| audit::Checkpoints::prepare(&settings.audit, &authorities));
        let checkpoints = checkpoints.transpose().map_err(anyhow::Error::msg)?;
        Ok(Self {
            database,
            key,
            pages,
            stack,
            redis,
            limiter,
            authorities,
            secured,
            redaction: Arc::new(redact::Redaction::new(&settings.redaction)),
            checkpoints,
            catalog: std::sync::OnceLock::new(),
            tasks,
            stop,
        })
    }

    /// A key for one purpose that every process of the suite comes to.
    fn derived(settings: &Settings, purpose: &str) -> anyhow::Result<[u8; 32]> {
        let secret =
            settings.security.caller_token_key.as_ref().context("security.caller_token_key is not set")?;
        Ok(rpc::derive_key(secret, &format!("toolcrib {purpose} v1")))
    }

    pub(crate) fn database(&self) -> anyhow::Result<Database> {
        self.database.clone().context("database.url is not set")
    }

    /// Starts the services in the order in which they need each other, and gives the links to serve.
    async fn links(
        &self,
        settings: &Settings,
        roles: &Roles,
        start_executor: impl FnOnce(&executor::Config, executor::Parts) -> Result<Routes, executor::Error>,
    ) -> anyhow::Result<BTreeMap<Role, Link>> {
        let mut served = BTreeMap::new();
        let mut link = |role: Role, peer: &str, routes: Option<Routes>| -> anyhow::Result<Link> {
            let Some(routes) = routes else { return self.remote(role, peer) };
            let link = rpc::stack(routes, self.stack.clone());
            served.insert(role, link.clone());
            Ok(link)
        };
        let peers = &settings.peers;
        // Services that need each other; calls begin when both are there. Audit asks the executor and permissions, which
        // send it their events, and the selector, which asks permissions; permissions asks the registry, which asks it and tells audit.
        let (executor_is, later_executor) = rpc::later(Role::Executor.as_str());
        let (permissions_is, later_permissions) = rpc::later(Role::Permissions.as_str());
        let (registry_is, later_registry) = rpc::later(Role::Registry.as_str());
        let (selector_is, later_selector) = rpc::later(Role::Selector.as_str());
        self.part_at_the_end([
            executor_is.clone(),
            permissions_is.clone(),
            registry_is.clone(),
            selector_is.clone(),
        ]);
        let audit = self.audit(settings, roles, [later_executor, later_permissions, later_selector])?;
        let audit = link(Role::Audit, &peers.audit, audit)?;
        let permissions = self.permissions(settings, roles, later_registry, audit.clone())?;
        let permissions = link(Role::Permissions, &peers.permissions, permissions)?;
        permissions_is.is(permissions.clone());
        let registry =
            link(Role::Registry, &peers.registry, self.registry(settings, roles, &permissions, &audit)?)?;
        registry_is.is(registry.clone());
        let catalog = (roles.has(Role::Selector) || roles.has(Role::Executor))
            .then(|| self.catalog(settings, &registry));
        let selector = self.selector(settings, roles, catalog.as_ref(), &permissions).await?;
        let selector = link(Role::Selector, &peers.selector, selector)?;
        selector_is.is(selector.clone());
        let executor = match catalog.filter(|_| roles.has(Role::Executor)) {
            None => None,
            Some(catalog) => Some(start_executor(
                &settings.executor,
                executor::Parts {
                    database: self.database()?,
                    pages: self.pages.clone(),
                    catalog,
                    registry: registry.clone(),
                    permissions: permissions.clone(),
                    audit: audit.clone(),
                    selector: selector.clone(),
                    outgoing: Outgoing::new("executor", self.key.clone()),
                    commands: settings.mcp.stdio_commands.clone(),
                    authorities: self.authorities.clone(),
                    limiter: self.limiter.clone(),
                    cache: redis::cache(settings, self.redis.as_ref(), &Self::derived(settings, "cache")?)?,
                    redaction: Arc::clone(&self.redaction),
                    seal: SealKey::new(Self::derived(settings, "queue")?),
                    stop: self.stop.clone(),
                    tasks: self.tasks.clone(),
                },
            )?),
        };
        let executor = link(Role::Executor, &peers.executor, executor)?;
        executor_is.is(executor.clone());
        if roles.has(Role::Edge) {
            let (key, limiter) = (self.key.clone(), self.limiter.clone());
            let parts = edge::Parts { registry, selector, executor, permissions, audit, key, limiter };
            served.insert(Role::Edge, edge::start(&settings.edge, parts));
        }
        Ok(served)
    }

    /// Once the process has stopped: services that hold each other would otherwise keep what they have.
    fn part_at_the_end(&self, laters: [Later; 4]) {
        let (stop, tasks) = (self.stop.clone(), self.tasks.clone());
        tokio::spawn(async move {
            stop.cancelled().await;
            tasks.wait().await;
            laters.iter().for_each(Later::is_gone);
        });
    }

    fn remote(&self, role: Role, peer: &str) -> anyhow::Result<Link> {
        let link = match &self.secured.processes {
            None => rpc::remote(role.as_str(), peer),
            Some(tls) => rpc::remote_secured(role.as_str(), peer, tls),
        };
        link.with_context(|| format!("peers.{} is not an address", role.as_str()))
    }

    fn audit(
        &self,
        settings: &Settings,
        roles: &Roles,
        [executor, permissions, selector]: [Link; 3],
    ) -> anyhow::Result<Option<Routes>> {
        if !roles.has(Role::Audit) {
            return Ok(None);
        }
        let parts = audit::Parts {
            database: self.database()?,
            pages: self.pages.clone(),
            executor,
            permissions,
            selector,
            outgoing: Outgoing::new("audit", self.key.clone()),
            checkpoints: self.checkpoints.clone().context("audit runs without its checkpoints")?,
            stop: self.stop.clone(),
            tasks: self.tasks.clone(),
        };
        Ok(Some(audit::start(&settings.audit, parts)))
    }

    fn permissions(
        &self,
        settings: &Settings,
        roles: &Roles,
        registry: Link,
        audit: Link,
    ) -> anyhow::Result<Option<Routes>> {
        if !roles.has(Role::Permissions) {
            return Ok(None);
        }
        let parts = permissions::Parts {
            database: self.database()?,
            pages: self.pages.clone(),
            api_key_pepper: settings.security.pepper()?,
            environment: settings.security.environment.clone(),
            registry,
            audit,
            outgoing: Outgoing::new("permissions", self.key.clone()),
            redaction: Arc::clone(&self.redaction),
            seal: Self::derived(settings, "permissions")?,
            authorities: self.authorities.clone(),
            stop: self.stop.clone(),
            tasks: self.tasks.clone(),
        };
        Ok(Some(permissions::start(&settings.permissions, parts)?))
    }

    fn registry(
        &self,
        settings: &Settings,
        roles: &Roles,
        permissions: &Link,
        audit: &Link,
    ) -> anyhow::Result<Option<Routes>> {
        if !roles.has(Role::Registry) {
            return Ok(None);
        }
        let parts = registry::Parts {
            database: self.database()?,
            pages: self.pages.clone(),
            permissions: permissions.clone(),
            audit: audit.clone(),
            outgoing: Outgoing::new("registry", self.key.clone()),
            commands: settings.mcp.stdio_commands.clone(),
            authorities: self.authorities.clone(),
            stop: self.stop.clone(),
            tasks: self.tasks.clone(),
        };
        Ok(Some(registry::start(&settings.registry, parts)))
    }

    async fn selector(
        &self,
        settings: &Settings,
        roles: &Roles,
        catalog: Option<&Catalog>,
        permissions: &Link,
    ) -> anyhow::Result<Option<Routes>> {
        let Some(catalog) = catalog.filter(|_| roles.has(Role::Selector)) else { return Ok(None) };
        let parts = selector::Parts {
            database: self.database()?,
            pages: self.pages.clone(),
            catalog: catalog.clone(),
            permissions: permissions.clone(),
            outgoing: Outgoing::new("selector", self.key.clone()),
            authorities: self.authorities.clone(),
            stop: self.stop.clone(),
            tasks: self.tasks.clone(),
        };
        Ok(Some(selector::start(&settings.selector, parts).await?))
    }

    /// One copy of the catalog for all services of this process that need it.
    fn catalog(&self, settings: &Settings, registry: &Link) -> Catalog {
        let outgoing = Outgoing::new("catalog", self.key.clone());
        let (catalog, feed) =
            Catalog::new(registry.clone(), outgoing, settings.catalog.tool_cache_ttl(), self.stop.clone());
        self.tasks.spawn(feed);
        self.catalog.get_or_init(|| catalog).clone()
    }
}

/// The database, there and with schemas of this program's version.
async fn database(settings: &Settings, roles: &Roles) -> anyhow::Result<Database> {
    let url = settings.database.url.as_ref().context("database.url is not set")?;
    let database =
        Database::new(url, settings.database.max_connections).context("database.url is not a URL")?;
    database.wait_until_up(DATABASE_PATIENCE).await.context("the database does not answer")?;
    for schema in schemas() {
        if roles.0.iter().any(|role| role.as_str() == schema.name()) {
            schema.check(database.pool()?).await?;
        }
    }
    Ok(database)
}
