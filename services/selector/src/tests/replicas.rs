//! Replicas that stop in the midst of what they do, and databases that were another cluster's: learning goes on.

use proto::{registry::v1::ToolDefinition, types::v1::Category};
use sqlx::{Connection as _, PgConnection};

use super::{
    house::{House, outcome, task, tool},
    learning::{effectiveness, house},
};
use crate::store;

#[tokio::test]
async fn a_replica_that_stops_in_the_midst_keeps_no_one_from_learning() {
    let house = house().await;
    let pool = house.database.pool().unwrap();
    let mut stopped = PgConnection::connect_with(&pool.connect_options()).await.unwrap();
    let mut transaction = stopped.begin().await.unwrap();
    store::teams_lock(&mut transaction, &["team".to_owned()]).await.unwrap();
    // It never says another word, and its session ends before the others lose patience.
    assert_eq!(house.record(vec![outcome("scout", "alpha_search", true, 50.0)]).await.unwrap(), 1);
    let broken = transaction.commit().await.map_err(::store::Error::from).unwrap_err();
    assert!(matches!(broken, ::store::Error::Unavailable(_)), "{broken:?}");
}

#[tokio::test]
async fn whoever_waits_too_long_for_a_team_may_try_again() {
    let house = house().await;
    let pool = house.database.pool().unwrap();
    let (mut busy, mut waiting) = (pool.begin().await.unwrap(), pool.begin().await.unwrap());
    let team = ["team".to_owned()];
    store::teams_lock(&mut busy, &team).await.unwrap();
    // It is at work for longer than anyone waits.
    let work = sqlx::query("SELECT pg_sleep(14)").execute(&mut *busy);
    let (done, refused) = tokio::join!(work, store::teams_lock(&mut waiting, &team));
    done.unwrap();
    assert!(matches!(refused, Err(::store::Error::Unavailable(_))), "{refused:?}");
}

#[tokio::test]
async fn after_a_restore_from_a_dump_everything_is_learned_as_before() {
    let before = house().await;
    let call = |succeeded| outcome("scout", "alpha_search", succeeded, 50.0);
    before.record(vec![call(true)]).await.unwrap();
    before.stop().await;
    // The numbers of a cluster that has lived longer.
    for table in ["record", "centroid", "transition", "alarm", "team"] {
        let restored = format!("UPDATE selector.{table} SET changed_in = 1000000000000000");
        let pool = before.database.pool().unwrap();
        sqlx::query(sqlx::AssertSqlSafe(restored)).execute(pool).await.unwrap();
    }
    let (first, second) =
        (House::on(before.database.clone()).await, House::on(before.database.clone()).await);
    for house in [&first, &second] {
        let searcher = tool("alpha_search", "Searches the web for pages.", &["search"]);
        house.add(ToolDefinition { category: Category::WebSearch.into(), ..searcher });
        assert_eq!(effectiveness(house, "alpha_search").await.executions, 1, "it is known from the start");
    }
    first.record(vec![call(false)]).await.unwrap();
    let told = effectiveness(&first, "alpha_search").await;
    assert_eq!((told.executions, told.successes), (2, 1), "{told:?}");
    let answer = first.select(task("search the web")).await.unwrap();
    assert_eq!(answer.primary.unwrap().executions, 2);
}
