//! Tools that are one unary method of a gRPC server, with JSON both ways by the tool's descriptors. Dropped, a call is
//! cancelled at the server. Must never put metadata into an error.

mod failure;
mod pool;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use ::grpc::{Call, Error, Method, Security};
use proto::registry::v1::GrpcBinding;
use reach::Authorities;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};

use self::pool::{Key, Pool};
use super::{Job, idempotency};
use crate::credentials::{Carried, Material};
use crate::outcome::{Ended, ToolError, ToolErrorCode};

/// Methods whose descriptors are kept read.
const MAX_METHODS: usize = 2_048;

/// Runs tools with a gRPC binding.
pub(crate) struct GrpcDriver {
    pool: Arc<Pool>,
    /// By digest of the tool's version.
    methods: Mutex<HashMap<String, Arc<Method>>>,
    max_response_bytes: usize,
}

impl GrpcDriver {
    /// Takes certificates of these authorities besides those that the system trusts, and answers of at most so many
    /// bytes, as they are on the wire.
    pub(crate) fn new(authorities: &Authorities, max_response_bytes: usize) -> Self {
        let pool = Arc::new(Pool::new(authorities.clone()));
        Self { pool, methods: Mutex::default(), max_response_bytes }
    }

    pub(crate) async fn run(&self, binding: &GrpcBinding, job: &Job<'_>, carried: &Carried) -> Ended {
        let method = self.method(binding, job).map_err(failure::of)?;
        let request = method.request(&idempotency::arguments(job)).map_err(failure::of)?;
        let metadata = metadata(binding, job, carried)?;
        let (begin, within) = (Instant::now(), before(job.timeout));
        let key = Key {
            team: job.team.to_owned(),
            endpoint: binding.endpoint.clone(),
            may_reach_any: binding.allow_private_network,
            credentials: carried.versions(),
        };
        let connection = self.pool.connection(&key, &security(carried), within).await.map_err(failure::of)?;
        let call = Call {
            method: &method,
            request,
            metadata: &metadata,
            timeout: within.saturating_sub(begin.elapsed()),
            max_bytes: self.max_response_bytes,
        };
        let answer = connection.unary(call).await;
        // Whatever is wrong with it: the next call is not to wait for it.
        if matches!(answer, Err(Error::Timeout | Error::Broken(_) | Error::Unreachable(_))) {
            self.pool.forget(&key);
        }
        method.answer(answer.map_err(failure::of)?).map_err(failure::of)
    }

    /// Ends every connection that no call uses.
    pub(crate) fn close(&self) {
        self.pool.clear();
    }

    fn method(&self, binding: &GrpcBinding, job: &Job<'_>) -> Result<Arc<Method>, Error> {
        let digest = job.tool.digest.as_str();
        let lock = || self.methods.lock().unwrap_or_else(PoisonError::into_inner);
        let known = lock().get(digest).filter(|_| !digest.is_empty()).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let method = Arc::new(Method::load(&binding.descriptor_set, &binding.service, &binding.method)?);
        let mut methods = lock();
        if methods.len() >= MAX_METHODS {
            methods.clear();
        }
        methods.insert(digest.to_owned(), Arc::clone(&method));
        Ok(method)
    }
}

/// The certificate to show, and whose certificates are taken.
fn security(carried: &Carried) -> Security {
    let Some(Material::MutualTls { certificate_pem, private_key_pem, ca_pem }) =
        carried.identity().map(|credential| &credential.material)
    else {
        return Security::default();
    };
    let text = |secret: &SecretString| secret.expose_secret().to_owned();
    Security {
        identity: Some((text(certificate_pem), text(private_key_pem))),
        authorities: Some(text(ca_pem)).filter(|pem| !pem.is_empty()),
    }
}

/// The fixed entries, then those of credentials, then the idempotency key where there is none yet.
fn metadata(binding: &GrpcBinding, job: &Job<'_>, carried: &Carried) -> Result<HeaderMap, ToolError> {
    let mut metadata = HeaderMap::new();
    for (name, value) in &binding.metadata {
        let entry = HeaderName::try_from(name).ok().zip(HeaderValue::try_from(value).ok());
        let told = format!("the tool's metadata {name:?} cannot be sent");
        let (name, value) = entry.ok_or_else(|| ToolError::new(ToolErrorCode::NotConfigured, told))?;
        metadata.insert(name, value);
    }
    let mut url = ::grpc::address(&binding.endpoint)
        .map_err(|wrong| ToolError::new(ToolErrorCode::NotConfigured, format!("the address {wrong}")))?;
    carried.apply(&mut url, &mut metadata, binding.allow_private_network)?;
    idempotency::set_header(job, &mut metadata)?;
    Ok(metadata)
}

/// A little before the attempt ends, so that the driver says itself how far the call came.
fn before(timeout: Duration) -> Duration {
    timeout.saturating_sub(Duration::from_millis(20).min(timeout / 10))
}
