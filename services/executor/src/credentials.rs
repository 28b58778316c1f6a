//! What requests of tools carry to show who they are. Asked of the registry, which keeps it sealed, and remembered for
//! less than a second, so that a revocation bites within one. Nothing here may be logged, and nothing secret may
//! stand in an error; what was carried is taken out of every text that a tool gives (`scrub.rs`).

mod carried;
mod scrub;

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use ::rpc::{ErrorReason, Link, Outgoing};
use moka::{Expiry, future::Cache};
use proto::registry::v1::{
    CredentialUse, ResolveCredentialRequest, ResolveCredentialResponse,
    registry_service_client::RegistryServiceClient, resolve_credential_response::Kind,
};
use secrecy::SecretString;
use types::Caller;

use self::scrub::Forms;
pub(crate) use self::{carried::Carried, scrub::Scrub};
use crate::outcome::{Reached, ToolError, ToolErrorCode};

/// How long the registry may take; it may have to fetch a token.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Longest time for which an answer is used, whatever it says: revocations bite within a second.
const MAX_FRESH: Duration = Duration::from_millis(950);
/// Credentials that are remembered.
const MAX_KNOWN: u64 = 10_000;

/// The credentials of every team.
pub(crate) struct Credentials {
    registry: Link,
    outgoing: Outgoing,
    /// By team and name. Those who ask at once ask the registry once.
    known: Cache<(String, String), Arc<Credential>>,
}

/// One version of a credential.
pub(crate) struct Credential {
    pub name: String,
    pub version: i32,
    pub material: Material,
    fresh: Duration,
    /// What is looked for in answers; made when first wanted.
    forms: OnceLock<Forms>,
}

impl Credential {
    fn new(name: String, version: i32, material: Material, fresh: Duration) -> Self {
        Self { name, version, material, fresh, forms: OnceLock::new() }
    }
}

/// What it is.
pub(crate) enum Material {
    /// A key, to be sent as it is.
    Key(SecretString),
    /// User and password.
    Basic(SecretString, SecretString),
    /// A token of OAuth 2.0.
    Bearer(SecretString),
    /// A client certificate.
    MutualTls {
        certificate_pem: SecretString,
        private_key_pem: SecretString,
        /// Empty: the authorities of the system.
        ca_pem: SecretString,
    },
}

struct AsLongAsFresh;

impl Expiry<(String, String), Arc<Credential>> for AsLongAsFresh {
    fn expire_after_create(
        &self,
        _: &(String, String),
        known: &Arc<Credential>,
        _: Instant,
    ) -> Option<Duration> {
        Some(known.fresh)
    }

    fn expire_after_update(
        &self,
        _: &(String, String),
        known: &Arc<Credential>,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(known.fresh)
    }
}

impl Credentials {
    pub(crate) fn new(registry: Link, outgoing: Outgoing) -> Self {
        let known = Cache::builder().max_capacity(MAX_KNOWN).expire_after(AsLongAsFresh).build();
        Self { registry, outgoing, known }
    }

    /// What a request with these credentials carries.
    pub(crate) async fn carry(&self, team: &str, uses: &[CredentialUse]) -> Result<Carried, ToolError> {
        let mut carried = Carried::default();
        for used in uses {
            let key = (team.to_owned(), used.credential.clone());
            let credential = self.known.try_get_with(key, self.ask(team, &used.credential, 0)).await;
            carried.add(used, credential.map_err(|error| ToolError::clone(&error))?)?;
        }
        Ok(carried)
    }

    /// The same for a server that has just refused them; `None` where there is nothing else to show it.
    pub(crate) async fn carry_instead(
        &self,
        team: &str,
        uses: &[CredentialUse],
        refused: &Carried,
    ) -> Result<Option<Carried>, ToolError> {
        let mut carried = Carried::default();
        for used in uses {
            let version = refused.version(&used.credential);
            let credential = self.ask(team, &used.credential, version).await?;
            self.known.insert((team.to_owned(), used.credential.clone()), Arc::clone(&credential)).await;
            carried.add(used, credential)?;
        }
        Ok((!carried.is_same(refused)).then_some(carried))
    }

    async fn ask(&self, team: &str, name: &str, refused_version: i32) -> Result<Arc<Credential>, ToolError> {
        let caller = Caller { team: team.to_owned(), ..Caller::service("executor") };
        let request = ResolveCredentialRequest { name: name.to_owned(), refused_version };
        let ask = || {
            let (mut client, request) = (RegistryServiceClient::new(self.registry.clone()), request.clone());
            let request = self.outgoing.request(&caller, TIMEOUT, request);
            async move { client.resolve_credential(request).await }
        };
        let answer = self
            .outgoing
            .read(ask)
            .await
            .map_err(|status| refusal(name, ::rpc::reason_of(&status), status.message()))?;
        let fresh = Duration::from_millis(u64::try_from(answer.fresh_ms).unwrap_or(0)).min(MAX_FRESH);
        let (version, name) = (answer.version, name.to_owned());
        let material = material(answer).ok_or_else(|| {
            ToolError::new(
                ToolErrorCode::NotConfigured,
                format!("credential {name} is of a kind not known here"),
            )
        })?;
        Ok(Arc::new(Credential::new(name, version, material, fresh)))
    }
}

fn material(answer: ResolveCredentialResponse) -> Option<Material> {
    Some(match answer.kind? {
        Kind::ApiKey(key) => Material::Key(key.into()),
        Kind::Basic(basic) => Material::Basic(basic.user.into(), basic.password.into()),
        Kind::BearerToken(token) => Material::Bearer(token.into()),
        Kind::MutualTls(pair) => Material::MutualTls {
            certificate_pem: pair.certificate_pem.into(),
            private_key_pem: pair.private_key_pem.into(),
            ca_pem: pair.ca_pem.into(),
        },
    })
}

/// Nothing was sent. Whether another try may help depends on who refused.
fn refusal(name: &str, reason: Option<ErrorReason>, message: &str) -> ToolError {
    let told =
        |code, why: &str| ToolError::new(code, format!("credential {name}: {why}")).having(Reached::No);
    match reason {
        Some(ErrorReason::NotFound) => told(ToolErrorCode::NotConfigured, "there is none of this name"),
        // Its words begin with the name.
        Some(ErrorReason::CredentialUnavailable) => {
            ToolError::new(ToolErrorCode::UpstreamAuth, message).having(Reached::No)
        }
        Some(
            ErrorReason::ServiceUnavailable | ErrorReason::StoreUnavailable | ErrorReason::OutcomeUnknown,
        ) => {
            let error = told(ToolErrorCode::Unreachable, "the registry, which keeps it, cannot be reached");
            ToolError { retryable: true, ..error }
        }
        _ => told(ToolErrorCode::NotConfigured, message),
    }
}
