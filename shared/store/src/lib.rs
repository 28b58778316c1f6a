//! Access to PostgreSQL: pool, migrations, outbox, and the private cluster of a developer's machine; and to Redis.
//!
//! No table of a service is known here; a service's SQL lives in its own `store.rs`.

mod database;
mod error;
mod group;
mod hold;
mod kept;
mod local;
mod migrate;
mod outbox;
mod redis;

pub use database::Database;
pub use error::Error;
pub use group::{Entry, GroupCommit};
pub use kept::Kept;
pub use local::{LocalCluster, LocalError, LocalOptions, User, unprivileged_user, user_can_reach};
pub use migrate::{MigrateError, Schema};
pub use outbox::{DeliveryFailed, Outbox, outbox_insert};
pub use redis::{Redis, RedisError, RedisOptions, Script};
