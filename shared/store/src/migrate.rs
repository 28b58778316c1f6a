//! One PostgreSQL schema a service, each with migrations and a version of its own.

use sqlx::{PgPool, migrate::Migrator};

use crate::Error;

/// The schema of one service and how it is brought up to date.
#[derive(Debug)]
pub struct Schema {
    name: &'static str,
    migrator: Migrator,
}

/// Why a schema cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// A migration failed; it was rolled back.
    #[error("migrating schema {schema} failed: {source}")]
    Failed {
        /// The schema.
        schema: &'static str,
        /// The reason.
        source: sqlx::migrate::MigrateError,
    },
    /// A newer toolcrib migrated it.
    #[error(
        "schema {schema} is at version {found}, this toolcrib knows up to {known}: run the newer toolcrib"
    )]
    Newer {
        /// The schema.
        schema: &'static str,
        /// Newest version in the database.
        found: i64,
        /// Newest version known.
        known: i64,
    },
    /// It was never migrated, or not far enough.
    #[error("schema {schema} is at version {found}, this toolcrib needs {needed}: run `toolcrib migrate`")]
    Older {
        /// The schema.
        schema: &'static str,
        /// Newest version in the database; 0 without any.
        found: i64,
        /// Newest version needed.
        needed: i64,
    },
    /// The database could not be asked.
    #[error("schema versions cannot be read: {0}")]
    Database(#[from] Error),
}

impl Schema {
    /// The schema of a service, with the migrations that `sqlx::migrate!` embedded.
    pub fn new(name: &'static str, mut migrator: Migrator) -> Self {
        migrator.dangerous_set_table_name(format!("{name}.schema_migrations"));
        migrator.create_schema(name);
        Self { name, migrator }
    }

    /// Name of the schema.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Runs what is missing, under an advisory lock: two processes may do this at once.
    pub async fn migrate(&self, pool: &PgPool) -> Result<(), MigrateError> {
        self.migrator.run(pool).await.map_err(|source| MigrateError::Failed { schema: self.name, source })
    }

    /// Refuses a schema that is older or newer than this program.
    pub async fn check(&self, pool: &PgPool) -> Result<(), MigrateError> {
        let found = self.version(pool).await?;
        let newest = self.migrator.iter().map(|migration| migration.version).max().unwrap_or(0);
        match found {
            found if found > newest => Err(MigrateError::Newer { schema: self.name, found, known: newest }),
            found if found < newest => Err(MigrateError::Older { schema: self.name, found, needed: newest }),
            _ => Ok(()),
        }
    }

    async fn version(&self, pool: &PgPool) -> Result<i64, Error> {
        let table = format!("{}.schema_migrations", self.name);
        let exists: bool =
            sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL").bind(&table).fetch_one(pool).await?;
        if !exists {
            return Ok(0);
        }
        // The table's name comes from the program, never from outside.
        let query = sqlx::AssertSqlSafe(format!("SELECT max(version) FROM {table} WHERE success"));
        let version: Option<i64> = sqlx::query_scalar(query).fetch_one(pool).await?;
        Ok(version.unwrap_or(0))
    }
}
