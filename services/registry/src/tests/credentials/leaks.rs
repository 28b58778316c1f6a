//! Nothing that is secret stands in the database, in a log or in an error, in any common spelling.

use std::{
    fmt::Write,
    io,
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE, BASE64_URL_SAFE_NO_PAD},
};
use proto::registry::v1::{
    CredentialRotation, OAuth2ClientSecret, OAuth2RefreshSecret, credential_rotation::Source,
    credential_secret::Kind,
};
use tracing_subscriber::{filter::LevelFilter, fmt::MakeWriter, layer::SubscriberExt};

use super::{
    token_server::{Answer, TokenServer},
    *,
};

/// Stands in every secret of this test, and nowhere else.
const CANARY: &str = "canary-9f3b1c77e2-secret";

/// The canary as it may be spelled: at any place in base64, whose groups are of three bytes.
static SPELLINGS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let mut all = vec![CANARY.to_owned(), hex::encode(CANARY), hex::encode_upper(CANARY)];
    for start in 0..3 {
        for engine in [BASE64_STANDARD, BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE, BASE64_URL_SAFE_NO_PAD] {
            let inside = &CANARY[start..];
            all.push(engine.encode(&inside[..inside.len() / 3 * 3]));
        }
    }
    all
});

fn spelled(text: &str) -> Option<&String> {
    SPELLINGS.iter().find(|spelling| text.contains(spelling.as_str()))
}

/// Keeps the lines of the log in which the canary stands.
#[derive(Clone, Default)]
struct Found(Arc<Mutex<Vec<String>>>);

impl io::Write for Found {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        let mut found = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if spelled(&text).is_some() || text.contains("this line shows that lines are seen") {
            found.push(text.into_owned());
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Found {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

async fn dump(house: &House) -> String {
    let pool = house.database.pool().unwrap();
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT format('%I.%I', table_schema, table_name) FROM information_schema.tables
         WHERE table_schema NOT IN ('pg_catalog', 'information_schema')",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    assert!(tables.iter().any(|table| table == "registry.credential_version"), "{tables:?}");
    let mut dump = String::new();
    for table in tables {
        let rows = format!("SELECT coalesce(string_agg(t::text, E'\\n'), '') FROM {table} t");
        let rows: String = sqlx::query_scalar(sqlx::AssertSqlSafe(rows)).fetch_one(pool).await.unwrap();
        dump.push_str(&rows);
    }
    dump
}

#[tokio::test]
async fn no_secret_stands_in_the_database_the_log_or_an_error() {
    let found = Found::default();
    let layer = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(found.clone());
    let log = tracing_subscriber::registry().with(LevelFilter::TRACE).with(layer);
    // The only test of this process that listens to the log of all threads.
    tracing::subscriber::set_global_default(log).unwrap();
    let server = TokenServer::start().await;
    let house = House::new().await;
    let token = || format!(r#"{{"access_token":"{CANARY}-token","refresh_token":"{CANARY}-next"}}"#);
    server.answer(Answer::Json(token()));
    let basic = BasicSecret { user: "user".into(), password: CANARY.into() };
    let oauth = OAuth2ClientSecret {
        token_url: server.url("/token"),
        client_id: "client".into(),
        client_secret: CANARY.into(),
        ..OAuth2ClientSecret::default()
    };
    let refresh = OAuth2RefreshSecret {
        token_url: server.url("/token"),
        client_id: "client".into(),
        client_secret: CANARY.into(),
        refresh_token: CANARY.into(),
        ..OAuth2RefreshSecret::default()
    };
    let mut told = String::new();
    for (name, kind) in [
        ("key", key(CANARY)),
        ("basic", Kind::Basic(basic)),
        ("client", Kind::Oauth2Client(oauth)),
        ("refresh", Kind::Oauth2Refresh(refresh)),
    ] {
        house.put(name, kind.clone()).await.unwrap();
        house.rotate(name, kind.clone()).await.unwrap();
        assert!(format!("{:?}", house.resolve(name, 0).await.unwrap()).contains(CANARY), "{name}");
        house.resolve(name, 2).await.unwrap();
        let wrong = Kind::ApiKey(format!("{CANARY}\n"));
        writeln!(told, "{:?}", house.put(name, wrong.clone()).await.unwrap_err()).unwrap();
        writeln!(told, "{:?}", house.rotate("none", wrong).await.unwrap_err()).unwrap();
    }
    // A token endpoint and sources that throw secrets back.
    for answer in [
        Answer::Status(400, format!(r#"{{"error":"{CANARY}","error_description":"{CANARY}"}}"#), None),
        Answer::Json(CANARY.into()),
    ] {
        server.answer(answer);
        house
            .sql("UPDATE registry.credential_version SET token_end_time = now(), next_fetch_time = NULL")
            .await;
        writeln!(told, "{:?}", house.resolve("client", 0).await.unwrap_err()).unwrap();
        writeln!(told, "{:?}", house.resolve("refresh", 0).await.unwrap_err()).unwrap();
    }
    house.write_source("file", CANARY);
    let rotation =
        CredentialRotation { source: Some(Source::File("file".into())), ..CredentialRotation::default() };
    house.put_request(PutCredentialRequest { rotation: Some(rotation), ..named("file") }).await.unwrap();
    house.write_source("file", &format!(r#"{{"{CANARY}":"{CANARY}"}}"#));
    house.sql("UPDATE registry.credential SET next_rotation_time = now() WHERE name = 'file'").await;
    let failed = house.until("file", |it| !it.last_error.is_empty()).await;
    writeln!(told, "{failed:?}{:?}{:?}", house.list().await, house.warnings().await).unwrap();
    house.revoke("basic", 0).await.unwrap();

    assert_eq!(spelled(&told), None);
    let dump = dump(&house).await;
    assert!(dump.len() > 2_000 && dump.contains("oauth2_client"), "the dump holds the tables");
    assert_eq!(spelled(&dump), None);
    tracing::info!("this line shows that lines are seen");
    let lines = found.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
    assert_eq!(lines.len(), 1, "{lines:#?}");
    house.stop().await;
}
