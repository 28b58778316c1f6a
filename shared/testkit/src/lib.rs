//! What tests need: a real PostgreSQL, one database a test, a real Redis, servers behind TLS, issuers of tokens, and the programs they run.
//! For development only; nothing here may be linked into the binary.
#![allow(clippy::expect_used, clippy::missing_panics_doc, reason = "a test that cannot start must fail")]

mod folder;
mod issuer;
mod redis;
mod tls;
mod tools;

use secrecy::SecretString;
use store::{Database, LocalCluster, LocalOptions, Schema};
use tokio::sync::OnceCell;

pub use folder::folder;
pub use issuer::{Algorithm, KeyServer, SigningKey, SigningKeyKind, signed};
pub use redis::{RedisCluster, RedisServer, redis, redis_cluster};
pub use tls::{Authority, Pair, TlsRequest, TlsServer};
pub use tools::{installed, tools_dir};

/// The cluster of this test binary; it ends with the process.
struct Cluster {
    cluster: LocalCluster,
    _directory: tempfile::TempDir,
}

static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();

async fn cluster() -> &'static LocalCluster {
    let start = || async {
        let directory = folder();
        let options = LocalOptions { directory: directory.path().join("postgres"), fsync: false };
        let cluster = LocalCluster::start(&options)
            .await
            .expect("PostgreSQL starts; run `make setup` if it is missing");
        Cluster { cluster, _directory: directory }
    };
    &CLUSTER.get_or_init(start).await.cluster
}

/// URL of a new, empty database.
pub async fn database_url() -> SecretString {
    let name = format!("test_{}", types::new_id().simple());
    let cluster = cluster().await;
    cluster.create_database(&name, "template0").await.expect("a new database");
    cluster.url(&name)
}

/// A new database with these schemas in it.
pub async fn database(schemas: &[Schema]) -> Database {
    let database = Database::new(&database_url().await, 8).expect("the URL is well-formed");
    for schema in schemas {
        schema.migrate(database.pool().expect("just made")).await.expect("migrations run");
    }
    database
}
