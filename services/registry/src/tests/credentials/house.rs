//! A registry that keeps credentials, and whoever asks it.

use std::{fs, io::Write, os::unix::fs::PermissionsExt};

use chrono::{DateTime, Utc};
use proto::registry::v1::{
    Credential, CredentialSecret, CredentialState, ListCredentialsRequest, PutCredentialRequest,
    ResolveCredentialRequest, ResolveCredentialResponse, RevokeCredentialRequest, RotateCredentialRequest,
    credential_secret::Kind,
};
use tempfile::TempDir;
use tonic::{Request, Status};

use super::*;
use crate::credentials::Credentials;

/// A registry with a key file and a folder of sources, which ends with it.
pub(super) struct House {
    pub registry: Registry,
    pub database: Database,
    pub config: Config,
    folder: TempDir,
}

impl House {
    pub(super) async fn new() -> Self {
        Self::over(database().await, |_| ())
    }

    /// Over a database that is there, with settings changed.
    pub(super) fn over(database: Database, change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("sources/team")).unwrap();
        let mut config = config();
        config.credentials.key_file = folder.path().join("keys");
        config.credentials.source_root = folder.path().join("sources");
        config.credentials.allow_private_network = true;
        config.credentials.timeout_s = 2;
        write_keys(&config.credentials.key_file, &["k1"]);
        change(&mut config);
        assert_eq!(config.validate(), Vec::<String>::new());
        let registry = registry(&config, &database);
        Self { registry, database, config, folder }
    }

    pub(super) async fn stop(self) {
        self.registry.stop().await;
        drop(self.folder);
    }

    /// Keys of these ids; the same id is the same key everywhere.
    pub(super) fn write_keys(&self, ids: &[&str]) {
        write_keys(&self.config.credentials.key_file, ids);
    }

    /// A file that the team's credentials may be rotated from; replaced in one step.
    pub(super) fn write_source(&self, name: &str, text: &str) {
        let path = self.config.credentials.source_root.join("team").join(name);
        fs::write(path.with_extension("new"), text).unwrap();
        fs::rename(path.with_extension("new"), path).unwrap();
    }

    /// A request of someone who is no service.
    pub(super) fn outsider<T>(caller: &Caller, message: T) -> Request<T> {
        let key = TokenKey::new(&SecretString::from("s".repeat(32)));
        let mut request = Request::new(message);
        request.metadata_mut().insert(::rpc::CALLER_HEADER, key.mint(caller).unwrap().parse().unwrap());
        request
    }

    pub(super) async fn put(&self, name: &str, kind: Kind) -> Result<Credential, Status> {
        self.put_request(PutCredentialRequest { secret: Some(secret(kind)), ..named(name) }).await
    }

    pub(super) async fn put_request(&self, request: PutCredentialRequest) -> Result<Credential, Status> {
        let answer =
            self.registry.client.clone().put_credential(Self::outsider(&admin("team"), request)).await?;
        Ok(answer.into_inner().credential.unwrap())
    }

    pub(super) async fn rotate(&self, name: &str, kind: Kind) -> Result<Credential, Status> {
        rotate_by(&self.registry, name, kind).await
    }

    pub(super) async fn revoke(&self, name: &str, version: i32) -> Result<Credential, Status> {
        let request = RevokeCredentialRequest { name: name.into(), version };
        let request = Self::outsider(&admin("team"), request);
        Ok(self.registry.client.clone().revoke_credential(request).await?.into_inner().credential.unwrap())
    }

    pub(super) async fn list(&self) -> Vec<Credential> {
        let request = request!(self.registry, "team", ListCredentialsRequest {});
        self.registry.client.clone().list_credentials(request).await.unwrap().into_inner().credentials
    }

    /// Credentials as another process has them that looks after none.
    pub(super) fn credentials(&self) -> Credentials {
        self.credentials_with(&self.config.credentials)
    }

    /// The same, with settings of its own.
    pub(super) fn credentials_with(&self, config: &crate::CredentialConfig) -> Credentials {
        let tasks = tokio_util::task::TaskTracker::new();
        Credentials::new(config, reach::Authorities::default(), self.database.clone(), tasks)
    }

    pub(super) async fn warnings(&self) -> Vec<String> {
        self.credentials().warnings("team").await.unwrap()
    }

    pub(super) async fn resolve(
        &self,
        name: &str,
        refused_version: i32,
    ) -> Result<ResolveCredentialResponse, Status> {
        let message = ResolveCredentialRequest { name: name.into(), refused_version };
        let request = request!(self.registry, "team", message);
        Ok(self.registry.client.clone().resolve_credential(request).await?.into_inner())
    }

    /// Waits until a credential is as wanted.
    pub(super) async fn until(&self, name: &str, is_done: impl Fn(&Credential) -> bool) -> Credential {
        let wait = async {
            loop {
                let found = self.list().await.into_iter().find(|it| it.name == name);
                if let Some(it) = found.filter(&is_done) {
                    return it;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), wait).await.expect("the credential becomes as wanted")
    }

    /// Waits until a query gives this number.
    pub(super) async fn until_number(&self, query: &'static str, wanted: i64) {
        let wait = async {
            while self.number(query).await != wanted {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), wait).await.expect("the number becomes as wanted");
    }

    pub(super) async fn sql(&self, statement: &'static str) {
        sqlx::query(statement).execute(self.database.pool().unwrap()).await.unwrap();
    }

    pub(super) async fn number(&self, query: &'static str) -> i64 {
        sqlx::query_scalar(query).fetch_one(self.database.pool().unwrap()).await.unwrap()
    }
}

/// Rotates by one of several registries.
pub(super) async fn rotate_by(registry: &Registry, name: &str, kind: Kind) -> Result<Credential, Status> {
    let message = RotateCredentialRequest { secret: Some(secret(kind)), ..rotation_of(name) };
    let request = request!(registry, "team", message);
    Ok(registry.client.clone().rotate_credential(request).await?.into_inner().credential.unwrap())
}

/// From the source.
pub(super) fn rotation_of(name: &str) -> RotateCredentialRequest {
    RotateCredentialRequest { name: name.into(), ..RotateCredentialRequest::default() }
}

/// Keys of these ids, in this order, in a file.
pub(super) fn write_keys(path: &std::path::Path, ids: &[&str]) {
    let mut file = tempfile::NamedTempFile::new_in(path.parent().unwrap()).unwrap();
    for id in ids {
        let digit = id.chars().last().unwrap().to_string();
        writeln!(file, "{id} {}", digit.repeat(64)).unwrap();
    }
    fs::set_permissions(file.path(), fs::Permissions::from_mode(0o600)).unwrap();
    file.persist(path).unwrap();
}

pub(super) fn key(text: &str) -> Kind {
    Kind::ApiKey(text.into())
}

/// Its versions, newest first.
pub(super) fn states(credential: &Credential) -> Vec<(i32, CredentialState)> {
    credential.versions.iter().map(|version| (version.version, version.state())).collect()
}

pub(super) fn timestamp(time: DateTime<Utc>) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: time.timestamp(), nanos: 0 }
}

fn secret(kind: Kind) -> CredentialSecret {
    CredentialSecret { kind: Some(kind) }
}
