//! What is taken is bounded, and so is how often it is planned.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::runtime::Handle;

use super::*;
use crate::definition::{Binding, Builtin, Proposal};

#[test]
fn a_server_has_no_more_names_than_fit() {
    let left = |names, added| Room::of(names, added).left;
    assert_eq!((left(0, None), left(19_999, None), left(20_001, None)), (20_000, 1, 0));
    assert_eq!((left(0, Some(0)), left(0, Some(999)), left(0, Some(2_000))), (1_000, 1, 0));
    assert_eq!(left(19_999, Some(0)), 1);
    assert!(Room::of(20_000, Some(0)).reason.contains("in all"));
    assert!(Room::of(10_000, Some(1_000)).reason.contains("within a day"));
}

#[test]
fn no_more_are_told_than_fit_and_none_is_forgotten() {
    let rejected = |count| told((0..count).map(|n| n.to_string()).collect());
    assert_eq!(rejected(20).last().unwrap(), "19");
    assert_eq!((rejected(21).len(), rejected(21).last().unwrap().as_str()), (20, "and 2 more"));
}

/// A server that this process keeps, and what it offers.
async fn kept(database: &Database) -> (Uuid, ServerRow, Offer) {
    let (pool, owner) = (database.pool().unwrap(), Uuid::now_v7());
    let transport = mcp::Transport::Http { url: "http://127.0.0.1/mcp".into(), headers: [].into() };
    let defaults = store::Defaults {
        category: None,
        capabilities: vec![],
        sensitivity: None,
        timeout_ms: 0,
        trust_annotations: false,
    };
    let told = trail::changed(&trail::own("team"), "it was registered");
    assert!(store::server_insert(pool, "team", "srv", &transport, &defaults, &[], &told).await.unwrap());
    let hour = Duration::from_hours(1);
    let claimed = store::servers_claim(pool, owner, hour, hour).await.unwrap();
    let key = store::ServerKey { team_id: "team".into(), id: claimed[0].id };
    let server = store::server_kept(pool, &key, owner).await.unwrap().unwrap();
    let tool = |name: &str| mcp::Tool {
        name: name.into(),
        title: None,
        description: "Does it.".into(),
        input_schema: serde_json::json!({"type": "object"}),
        output_schema: None,
        annotations: mcp::Annotations::default(),
    };
    let tools = ["a", "b", "c", "d", "e"].map(tool).to_vec();
    let offer = normalise::normalise("srv", &transport, &[], &defaults, tools).unwrap();
    (owner, server, offer)
}

/// Registers a tool of this name by hand, unless somebody holds the lock; gives whether nobody did.
async fn written(database: &Database, name: String) -> bool {
    let lock = sqlx::query("SELECT FROM registry.revision FOR UPDATE NOWAIT");
    let is_free = lock.execute(database.pool().unwrap()).await.is_ok();
    if is_free {
        let binding = Some(Binding::Builtin(Builtin { name: "echo".into() }));
        let (description, input_schema) = ("By hand.".to_owned(), r#"{"type":"object"}"#.to_owned());
        let (category, capabilities) = (Some(types::Category::Custom), vec!["echo".to_owned()]);
        let proposal = Proposal {
            name,
            description,
            category,
            capabilities,
            input_schema,
            binding,
            ..Proposal::default()
        };
        let own = trail::own("team");
        let registered = register::register(database, &own, proposal, register::SettingsPlan::Keep);
        let registered = tokio::time::timeout(Duration::from_secs(30), registered).await;
        registered.expect("nobody holds the lock").unwrap();
    }
    is_free
}

#[tokio::test]
async fn what_changes_while_tools_are_compared_is_heeded_and_the_comparing_ends() {
    let database = testkit::database(&[crate::schema()]).await;
    let (owner, server, offer) = kept(&database).await;
    for (busy_rounds, compared) in [(1, vec![true, false]), (u32::MAX, vec![true, true, true, false])] {
        let rounds = Arc::new(Mutex::new(Vec::new()));
        let (seen, others) = (Arc::clone(&rounds), database.clone());
        let make = move |server: &ServerRow, offer: &Offer, catalog| {
            let round = u32::try_from(seen.lock().unwrap().len()).unwrap();
            let name = offer.tools[offer.tools.len() - 1 - round as usize].0.name.clone();
            let is_written = round < busy_rounds && Handle::current().block_on(written(&others, name));
            seen.lock().unwrap().push(is_written);
            Planned::make(server, TrustPolicy::ApproveAll, offer, catalog)
        };
        let offer = match busy_rounds {
            1 => offer.clone(),
            _ => Offer { tools: renamed(&offer), rejected: vec![] },
        };
        let rejected = settle(&database, owner, &server, offer, make).await.unwrap().unwrap();
        assert_eq!(*rounds.lock().unwrap(), compared);
        assert_eq!(rejected.len(), compared.iter().filter(|is_written| **is_written).count(), "{rejected:?}");
        assert!(rejected.iter().all(|told| told.contains("was registered by hand")), "{rejected:?}");
    }
    let pool = database.pool().unwrap();
    let by_hand = sqlx::query_scalar("SELECT count(*) FROM registry.tool WHERE server_name IS NULL");
    let by_hand: i64 = by_hand.fetch_one(pool).await.unwrap();
    assert_eq!(by_hand, 4, "none was overwritten");
}

/// The same tools under other names.
fn renamed(offer: &Offer) -> Vec<(Definition, Digests)> {
    let other = |(definition, _): &(Definition, Digests)| {
        let definition = Definition { name: format!("{}_2", definition.name), ..definition.clone() };
        let digests = definition.digests().unwrap();
        (definition, digests)
    };
    offer.tools.iter().map(other).collect()
}
