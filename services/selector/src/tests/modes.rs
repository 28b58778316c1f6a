//! The model through the whole service: vectors are made, kept and read again; files that are missing or damaged cost
//! quality, are told, and break nothing.

use std::path::{Path, PathBuf};

use proto::selector::v1::{GetSelectorHealthRequest, GetSelectorHealthResponse, Mode as WireMode};
use types::Role;

use super::house::{House, config, task, tool, until};
use crate::{Config, Mode};

/// The model that comes with the project.
fn pack() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/all-minilm-l6-v2")
}

/// A copy of the model that a test may damage.
fn copy() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(pack()).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
    }
    folder
}

async fn house(mode: Mode, folder: &Path) -> House {
    on(testkit::database(&[crate::schema()]).await, mode, folder).await
}

async fn on(database: ::store::Database, mode: Mode, folder: &Path) -> House {
    let config = Config { mode, model_folder: folder.to_str().unwrap().to_owned(), ..config() };
    House::configured(database, config).await
}

fn fill(house: &House) {
    house.add(tool("mailer", "Sends electronic messages to people.", &[]));
    house.add(tool("painter", "Creates pictures of animals.", &[]));
    house.add(tool("ledger", "Books payments and writes bills.", &[]));
}

async fn health(house: &House) -> GetSelectorHealthResponse {
    let request = house.by("team", "scout", Role::Agent, GetSelectorHealthRequest {});
    house.client().get_selector_health(request).await.unwrap().into_inner()
}

async fn all_made(house: &House) {
    until(async || {
        let health = health(house).await;
        health.tools > 0 && health.vectors_pending == 0
    })
    .await;
}

/// Rows of vectors, and what changes when one of them is written again.
async fn kept(house: &House) -> (i64, Option<String>) {
    sqlx::query_as("SELECT count(*), string_agg(xmin::text, ',' ORDER BY text_digest) FROM selector.vector")
        .fetch_one(house.database.pool().unwrap())
        .await
        .unwrap()
}

#[tokio::test]
async fn vectors_are_made_once_and_kept_and_a_changed_tool_costs_its_own_alone() {
    let first = house(Mode::Full, &pack()).await;
    fill(&first);
    let early = first.select(task("send a mail")).await.unwrap();
    assert!(early.primary.is_some(), "no selection waits for vectors: {early:?}");
    all_made(&first).await;
    let told = health(&first).await;
    assert_eq!((told.mode(), told.configured_mode()), (WireMode::Full, WireMode::Full));
    assert_eq!((told.tools, told.vectors, told.mode_reason.as_str()), (3, 3, ""));
    assert!(told.index_bytes > 3 * 384 && !told.model_id.is_empty(), "{told:?}");
    until(async || kept(&first).await.0 == 6).await;
    first.stop().await;
    let rows = kept(&first).await;
    let second = on(first.database.clone(), Mode::Full, &pack()).await;
    fill(&second);
    all_made(&second).await;
    assert_eq!(kept(&second).await, rows, "none was made again");
    second.add(tool("painter", "Creates drawings of animals.", &[]));
    until(async || kept(&second).await.0 == 8).await;
    all_made(&second).await;
}

#[tokio::test]
async fn a_task_finds_the_tool_that_shares_no_word_with_it() {
    let house = house(Mode::Full, &pack()).await;
    fill(&house);
    all_made(&house).await;
    for (words, expected) in [("draw a portrait of my cat", "painter"), ("invoice the customer", "ledger")] {
        let answer = house.select(task(words)).await.unwrap();
        assert_eq!((answer.mode(), answer.vectors_pending), (WireMode::Full, 0));
        let primary = answer.primary.unwrap();
        assert_eq!(primary.name, expected, "{words}: {primary:?}");
        assert!(primary.signals["embedding"] > 0.0, "{primary:?}");
    }
    house.stop().await;
    let vectors: Vec<(Option<Vec<u8>>, String)> =
        sqlx::query_as("SELECT task_vector, model_id FROM selector.selection")
            .fetch_all(house.database.pool().unwrap())
            .await
            .unwrap();
    let told = health(&house).await;
    assert!(vectors.len() == 2 && vectors.iter().all(|(_, model)| *model == told.model_id));
    let vector = embed::Vector::from_bytes(vectors[0].0.as_ref().unwrap()).unwrap();
    assert_eq!(vector.dimension(), 384);
}

type Damage = (&'static str, fn(&Path));

/// What a file of the model may suffer.
fn damages() -> [Damage; 3] {
    [
        ("deleted", |file| std::fs::remove_file(file).unwrap()),
        ("cut", |file| {
            let length = std::fs::metadata(file).unwrap().len();
            std::fs::File::options().write(true).open(file).unwrap().set_len(length / 2).unwrap();
        }),
        ("flipped", |file| {
            let mut bytes = std::fs::read(file).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            std::fs::write(file, bytes).unwrap();
        }),
    ]
}

#[tokio::test]
async fn a_damaged_model_falls_back_to_the_table_and_a_damaged_table_to_words() {
    for (how, damage) in damages() {
        let folder = copy();
        damage(&folder.path().join("model.safetensors"));
        check(folder.path(), WireMode::Static, &["model.safetensors"], how).await;
        damage(&folder.path().join("static.safetensors"));
        check(folder.path(), WireMode::Lexical, &["model.safetensors", "static.safetensors"], how).await;
    }
    let nothing = tempfile::tempdir().unwrap();
    check(&nothing.path().join("missing"), WireMode::Lexical, &["missing"], "no folder").await;
}

async fn check(folder: &Path, mode: WireMode, named: &[&str], how: &str) {
    let house = house(Mode::Full, folder).await;
    fill(&house);
    all_made(&house).await;
    let told = health(&house).await;
    assert_eq!((told.mode(), told.configured_mode()), (mode, WireMode::Full), "{how}: {told:?}");
    let answer = house.select(task("send electronic messages")).await.unwrap();
    assert_eq!((answer.mode(), &answer.mode_reason), (mode, &told.mode_reason), "{how}");
    assert_eq!(answer.primary.unwrap().name, "mailer", "{how}");
    for name in named {
        assert!(told.mode_reason.contains(name), "{how}: {}", told.mode_reason);
    }
}

#[tokio::test]
async fn vectors_that_are_damaged_in_the_database_are_made_anew() {
    let first = house(Mode::Full, &pack()).await;
    fill(&first);
    all_made(&first).await;
    until(async || kept(&first).await.0 == 6).await;
    first.stop().await;
    let pool = first.database.pool().unwrap();
    sqlx::query("UPDATE selector.vector SET vector = 'rubbish'").execute(pool).await.unwrap();
    let second = on(first.database.clone(), Mode::Full, &pack()).await;
    fill(&second);
    all_made(&second).await;
    let sound = "SELECT count(*) FROM selector.vector WHERE length(vector) > 384";
    until(async || sqlx::query_scalar::<_, i64>(sound).fetch_one(pool).await.unwrap() == 6).await;
}

#[tokio::test]
async fn vectors_that_no_tool_uses_are_deleted_after_a_month() {
    let house = house(Mode::Lexical, &pack()).await;
    let pool = house.database.pool().unwrap();
    sqlx::query(
        "INSERT INTO selector.vector SELECT 'team', 'model', days::text, 'x', now() - days * interval '1 day'
         FROM generate_series(29, 32, 2) AS days",
    )
    .execute(pool)
    .await
    .unwrap();
    crate::store::rows_delete_expired(pool).await.unwrap();
    assert_eq!(kept(&house).await.0, 1);
}
