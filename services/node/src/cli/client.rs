//! The one connection to the edge: where it is, who we are, and a client for each service.
//!
//! The key goes into the request's metadata and nowhere else. It must never be printed, and the key of this
//! machine must never be sent to another one.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::anyhow;
use clap::Args;
use proto::{
    audit::v1::audit_service_client::AuditServiceClient,
    executor::v1::executor_service_client::ExecutorServiceClient,
    permissions::v1::permissions_service_client::PermissionsServiceClient,
    registry::v1::registry_service_client::RegistryServiceClient,
    selector::v1::selector_service_client::SelectorServiceClient,
};
use secrecy::{ExposeSecret, SecretString};
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, ClientTlsConfig, Endpoint, Uri},
};
use tonic_health::pb::health_client::HealthClient;

use super::{
    error::{Context, Error},
    output::Format,
};

const DEFAULT_ADDRESS: &str = "http://127.0.0.1:7700";
const DEFAULT_TIMEOUT_S: u64 = 30;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Answers may be larger than requests: a page of tools brings their schemas.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// Options of every command that asks a running toolcrib.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Client options")]
pub struct ClientArgs {
    /// Where toolcrib is [default: what `toolcrib up` serves here, else http://127.0.0.1:7700]
    #[arg(long, global = true, env = "TOOLCRIB_ADDRESS", value_name = "URL", hide_env_values = true)]
    pub address: Option<String>,
    /// File that holds the API key [default: the variable TOOLCRIB_API_KEY, else the key of `toolcrib up`]
    #[arg(long, global = true, value_name = "FILE")]
    pub api_key_file: Option<PathBuf>,
    /// The end user that you act for, whom policies and approvers see
    #[arg(long, global = true, env = "TOOLCRIB_ON_BEHALF_OF", value_name = "USER", hide_env_values = true)]
    pub on_behalf_of: Option<String>,
    /// How answers are written: table, or json (canonical proto JSON of the response)
    #[arg(
        short,
        long,
        global = true,
        value_enum,
        value_name = "FORMAT",
        default_value_t,
        hide_possible_values = true
    )]
    pub output: Format,
    /// Longest wait for one answer [default: 30, for `call` and `batch` 310, for `tools import` 300]
    #[arg(long, global = true, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub timeout: Option<u64>,
}

/// A channel that adds key and deadline to every request.
pub type Service = InterceptedService<Channel, Identity>;

/// What is added to every request.
#[derive(Clone)]
pub struct Identity {
    authorization: Option<MetadataValue<Ascii>>,
    on_behalf_of: Option<MetadataValue<Ascii>>,
    timeout: Duration,
}

impl Interceptor for Identity {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(authorization) = &self.authorization {
            request.metadata_mut().insert("authorization", authorization.clone());
        }
        if let Some(user) = &self.on_behalf_of {
            request.metadata_mut().insert("on-behalf-of", user.clone());
        }
        request.set_timeout(self.timeout);
        Ok(request)
    }
}

/// Where the edge is and how long to wait for it, found before anything is sent.
#[derive(Debug)]
pub struct Target {
    /// The edge's address.
    pub address: String,
    /// The limit on one call, in seconds.
    pub timeout_s: u64,
    api_key_file: Option<PathBuf>,
    on_behalf_of: Option<String>,
}

impl Target {
    /// From the options and what `toolcrib up` left in the data folder.
    pub fn find(args: &ClientArgs, default_timeout_s: Option<u64>) -> Self {
        let local = || std::fs::read_to_string(crate::data::locate().join("edge.address")).ok();
        let address = args.address.clone().or_else(local).unwrap_or_else(|| DEFAULT_ADDRESS.into());
        Self {
            address: with_scheme(address.trim()),
            timeout_s: args.timeout.or(default_timeout_s).unwrap_or(DEFAULT_TIMEOUT_S),
            api_key_file: args.api_key_file.clone(),
            on_behalf_of: args.on_behalf_of.clone(),
        }
    }

    /// What an error tells of it.
    pub fn context(&self) -> Context {
        Context { address: self.address.clone(), timeout_s: self.timeout_s }
    }

    /// Connects, or says why not.
    pub async fn connect(&self) -> Result<Client, Error> {
        let wrong = |error| Error::usage(format!("{:?} is no address of a server: {error}", self.address));
        let uri: Uri = self.address.parse().map_err(|error| wrong(anyhow!("{error}")))?;
        let key = self.api_key(&uri)?;
        let mut endpoint = Endpoint::from_shared(self.address.clone())
            .and_then(|endpoint| endpoint.user_agent(concat!("toolcrib-cli/", env!("CARGO_PKG_VERSION"))))
            .map_err(|error| wrong(error.into()))?
            .connect_timeout(CONNECT_TIMEOUT);
        if uri.scheme_str() == Some("https") {
            let tls = ClientTlsConfig::new().with_native_roots();
            endpoint = endpoint.tls_config(tls).map_err(|error| wrong(error.into()))?;
        }
        let channel = endpoint.connect().await.map_err(|error| Error::Unreachable(innermost(&error)))?;
        let authorization = key.as_ref().map(bearer).transpose()?;
        let timeout = Duration::from_secs(self.timeout_s);
        let on_behalf_of = self.on_behalf_of.as_deref().map(user).transpose()?;
        let key_id = key.as_ref().and_then(key_id);
        Ok(Client { channel, identity: Identity { authorization, on_behalf_of, timeout }, key_id })
    }

    fn api_key(&self, uri: &Uri) -> Result<Option<SecretString>, Error> {
        if let Some(file) = &self.api_key_file {
            return match read_key(file) {
                Ok(key) => Ok(Some(key)),
                Err(error) => {
                    Err(Error::usage(format!("cannot read the key in {}: {error}", file.display())))
                }
            };
        }
        if let Some(key) = key_of_environment() {
            return Ok(Some(key));
        }
        if !is_this_machine(uri) {
            return Ok(None);
        }
        let file = crate::data::locate().join("dev.key");
        match read_key(&file) {
            Ok(key) => Ok(Some(key)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::usage(format!("cannot read the key in {}: {error}", file.display()))),
        }
    }
}

/// A connection to the edge.
#[derive(Clone)]
pub struct Client {
    channel: Channel,
    identity: Identity,
    key_id: Option<String>,
}

impl Client {
    /// The id of the key that is presented; `None` without one, and for a token.
    pub fn key_id(&self) -> Option<&str> {
        self.key_id.as_deref()
    }
}

macro_rules! clients {
    ($($(#[$doc:meta])* $name:ident: $client:ident;)+) => {
        impl Client {
            $($(#[$doc])*
            pub fn $name(&self) -> $client<Service> {
                $client::with_interceptor(self.channel.clone(), self.identity.clone())
                    .max_decoding_message_size(MAX_ANSWER_BYTES)
            })+
        }
    };
}

clients! {
    /// The catalog.
    registry: RegistryServiceClient;
    /// The selection.
    selector: SelectorServiceClient;
    /// The calls.
    executor: ExecutorServiceClient;
    /// Identities and grants.
    permissions: PermissionsServiceClient;
    /// The trail.
    audit: AuditServiceClient;
    /// gRPC health.
    health: HealthClient;
}

fn bearer(key: &SecretString) -> Result<MetadataValue<Ascii>, Error> {
    let mut value = MetadataValue::try_from(format!("Bearer {}", key.expose_secret()))
        .map_err(|_| Error::usage("the API key holds characters that no key has"))?;
    value.set_sensitive(true);
    Ok(value)
}

fn user(name: &str) -> Result<MetadataValue<Ascii>, Error> {
    let wrong = || Error::usage("--on-behalf-of takes 1 to 256 visible characters without spaces");
    let is_user = (1..=256).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic());
    MetadataValue::try_from(name).ok().filter(|_| is_user).ok_or_else(wrong)
}

/// The third part of a key: `tc_<env>_<key id>_<secret>_<crc>`.
fn key_id(key: &SecretString) -> Option<String> {
    let parts: Vec<&str> = key.expose_secret().split('_').collect();
    let [_, _, id, _, _] = parts[..] else { return None };
    Some(id.to_owned())
}

fn read_key(file: &Path) -> std::io::Result<SecretString> {
    let text = SecretString::from(std::fs::read_to_string(file)?);
    Ok(SecretString::from(text.expose_secret().trim()))
}

#[expect(clippy::disallowed_methods, reason = "an option with a secret would show in the process list")]
fn key_of_environment() -> Option<SecretString> {
    let key = SecretString::from(std::env::var("TOOLCRIB_API_KEY").ok()?);
    let key = key.expose_secret().trim();
    if key.is_empty() { None } else { Some(SecretString::from(key)) }
}

fn with_scheme(address: &str) -> String {
    if address.contains("://") { address.to_owned() } else { format!("http://{address}") }
}

fn is_this_machine(uri: &Uri) -> bool {
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    innermost.to_string()
}

/// Every item of a list, page after page, at most `limit`; and the token of what was left.
pub async fn pages<T, F>(limit: usize, mut fetch: F) -> Result<(Vec<T>, String), Error>
where
    F: AsyncFnMut(i32, String) -> Result<(Vec<T>, String), Status>,
{
    const PAGE: usize = 200;
    let (mut items, mut token) = (Vec::new(), String::new());
    loop {
        let size = PAGE.min(limit - items.len());
        let (page, next) = fetch(i32::try_from(size).unwrap_or(i32::MAX), token).await?;
        items.extend(page);
        token = next;
        if token.is_empty() || items.len() >= limit {
            items.truncate(limit);
            return Ok((items, token));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_this_machine_stays_on_it() {
        for local in
            ["http://127.0.0.1:7700", "http://localhost:1", "http://[::1]:7700", "http://127.9.9.9:1"]
        {
            assert!(is_this_machine(&local.parse().unwrap()), "{local}");
        }
        for away in ["https://crib.example.com", "http://127.0.0.1.example.com", "http://10.0.0.1:7700"] {
            assert!(!is_this_machine(&away.parse().unwrap()), "{away}");
        }
    }

    #[test]
    fn a_key_is_never_printed() {
        let value = bearer(&SecretString::from("tc_dev_id_secret_crc")).unwrap();
        assert!(!format!("{value:?}").contains("secret"));
        let error = bearer(&SecretString::from("line\nfeed")).unwrap_err();
        assert!(!format!("{error:?}").contains("line\nfeed"));
    }

    #[test]
    fn of_a_key_only_its_id_is_known() {
        assert_eq!(key_id(&SecretString::from("tc_dev_id_secret_crc")).as_deref(), Some("id"));
        assert_eq!(key_id(&SecretString::from("a.token.x")), None);
        assert!(user("ann@example.com").is_ok() && user("").is_err() && user("a b").is_err());
    }

    #[test]
    fn an_address_without_scheme_is_http() {
        assert_eq!(with_scheme("127.0.0.1:7700"), "http://127.0.0.1:7700");
        assert_eq!(with_scheme("https://x"), "https://x");
    }

    #[tokio::test]
    async fn pages_are_fetched_until_the_end_or_the_limit() {
        async fn page(size: i32, token: String) -> Result<(Vec<usize>, String), Status> {
            let start: usize = token.parse().unwrap_or(0);
            let end = (start + usize::try_from(size).unwrap()).min(500);
            Ok(((start..end).collect(), if end == 500 { String::new() } else { end.to_string() }))
        }
        let (all, token) = pages(usize::MAX, page).await.unwrap();
        assert_eq!((all, token), ((0..500).collect(), String::new()));
        let (some, token) = pages(250, page).await.unwrap();
        assert_eq!((some.len(), token.as_str()), (250, "250"));
    }
}
