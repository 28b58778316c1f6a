//! The whole service against a real PostgreSQL, through the stack that stands around it.

mod crowd;
mod erasures;
mod feedback;
pub(crate) mod house;
mod learning;
mod log;
mod misses;
mod modes;
mod outcomes;
mod patterns;
mod pins;
mod policies;
mod replicas;
mod safety;
mod select;
mod told;

use proto::selector::v1::RankedTool;

use house::{House, tool};

/// Two searchers that differ in name only, and a painter.
async fn searchers() -> House {
    let house = House::new().await;
    for name in ["alpha_search", "beta_search"] {
        house.add(tool(name, "Searches the web for pages.", &["search"]));
    }
    house.add(tool("painter", "Paints pictures of animals.", &["generate"]));
    house
}

fn names(first: Option<&RankedTool>, others: &[RankedTool]) -> Vec<String> {
    first.into_iter().chain(others).map(|tool| tool.name.clone()).collect()
}
