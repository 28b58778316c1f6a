//! A bucket that speaks Amazon's S3 as a second place. Must never show its keys.

use ::object_store::{
    Certificate, ClientOptions, Error, ObjectStoreExt, RetryConfig,
    aws::{AmazonS3, AmazonS3Builder},
    path::Path,
};
use reach::Authorities;
use secrecy::ExposeSecret;

use super::{Copy, Failure, escaped, file_name};
use crate::config::CheckpointConfig;

/// Longest checkpoint that is read, in bytes.
const MAX_BYTES: u64 = 64 * 1024;

/// The bucket.
#[derive(Debug)]
pub(crate) struct Bucket {
    store: AmazonS3,
    prefix: String,
}

impl Bucket {
    /// The bucket and prefix of `bucket/prefix`. Without keys in the settings they come from where programs in Amazon's
    /// cloud have theirs: a web identity, the container or the machine.
    pub(super) fn new(
        rest: &str,
        settings: &CheckpointConfig,
        authorities: &Authorities,
    ) -> Result<Self, String> {
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() {
            return Err("names no bucket: s3://bucket/prefix".to_owned());
        }
        let s3 = &settings.s3;
        let mut options = ClientOptions::new()
            .with_timeout(settings.timeout())
            .with_connect_timeout(settings.timeout())
            .with_allow_http(s3.allow_http);
        if let Some(pem) = authorities.pem() {
            let certificates = Certificate::from_pem_bundle(pem.as_bytes());
            for certificate in certificates.map_err(|error| format!("has no authorities: {error}"))? {
                options = options.with_root_certificate(certificate);
            }
        }
        // What fails is tried again with the next checkpoint.
        let retry =
            RetryConfig { max_retries: 1, retry_timeout: settings.timeout(), ..RetryConfig::default() };
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(bucket)
            .with_region(&s3.region)
            .with_client_options(options)
            .with_retry(retry);
        if !s3.endpoint.is_empty() {
            builder = builder.with_endpoint(&s3.endpoint);
        }
        if let (Some(id), Some(secret)) = (&s3.access_key_id, &s3.secret_access_key) {
            builder =
                builder.with_access_key_id(id.expose_secret()).with_secret_access_key(secret.expose_secret());
        }
        if let Some(token) = &s3.session_token {
            builder = builder.with_token(token.expose_secret());
        }
        let store = builder.build().map_err(|error| format!("cannot be used: {error}"))?;
        Ok(Self { store, prefix: prefix.trim_matches('/').to_owned() })
    }

    pub(super) async fn put(&self, copy: Copy<'_>) -> Result<(), Failure> {
        let name = file_name(copy.size);
        let name = match self.read(copy.team, &name).await? {
            Some(there) if there != copy.note => {
                format!("{name}.{}", &types::digest_bytes(copy.note.as_bytes())[..16])
            }
            _ => name,
        };
        for name in [name.as_str(), "latest"] {
            let put = self.store.put(&self.path(copy.team, name), copy.note.to_owned().into()).await;
            put.map_err(|error| told(&error))?;
        }
        Ok(())
    }

    pub(super) async fn latest(&self, team: &str) -> Result<Option<String>, Failure> {
        self.read(team, "latest").await
    }

    /// Asks for an object that is not there: whoever may not, or does not reach the bucket, is told so.
    pub(super) async fn probe(&self) -> Result<(), Failure> {
        match self.store.head(&self.path("", "probe")).await {
            Ok(_) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(told(&error)),
        }
    }

    async fn read(&self, team: &str, name: &str) -> Result<Option<String>, Failure> {
        let found = match self.store.get(&self.path(team, name)).await {
            Err(Error::NotFound { .. }) => return Ok(None),
            found => found.map_err(|error| told(&error))?,
        };
        if found.meta.size > MAX_BYTES {
            return Err(format!("has a checkpoint of more than {MAX_BYTES} bytes"));
        }
        let bytes = found.bytes().await.map_err(|error| told(&error))?;
        String::from_utf8(bytes.to_vec()).map(Some).map_err(|_| "has a checkpoint that is no text".to_owned())
    }

    fn path(&self, team: &str, name: &str) -> Path {
        let parts = self.prefix.split('/').chain([team]).filter(|part| !part.is_empty());
        parts.map(escaped).chain([name.to_owned()]).collect()
    }
}

/// What went wrong, in one line: the deepest cause, since what stands above tells of times that differ.
fn told(error: &Error) -> Failure {
    let what = match error {
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => "refuses these keys",
        _ => "does not do what is asked",
    };
    let mut deepest: &dyn std::error::Error = error;
    while let Some(next) = deepest.source() {
        deepest = next;
    }
    let text = format!("{what}: {deepest}");
    let line: String = text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
    line.chars().take(300).collect()
}
