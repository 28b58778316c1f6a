//! Pins through the whole service: offered to those who may call, and to no one else.

use ::rpc::{ErrorReason, reason_of};
use proto::{
    registry::v1::ToolStatus,
    selector::v1::{
        ListPinsRequest, Pin, PinToolRequest, SelectToolsRequest, SelectToolsResponse, UnpinToolRequest,
    },
    types::v1::Category,
};
use tonic::{Code, Status};

use super::{
    house::{House, task, tool, until},
    searchers,
};

async fn pin(house: &House, request: PinToolRequest) -> Result<Pin, Status> {
    let request = house.by_operator("team", request);
    house.client().pin_tool(request).await.map(|answer| answer.into_inner().pin.unwrap())
}

fn of(name: &str) -> PinToolRequest {
    PinToolRequest { tool_name: name.into(), ..PinToolRequest::default() }
}

fn pinned(answer: &SelectToolsResponse) -> Vec<&str> {
    answer.pinned.iter().map(|tool| tool.name.as_str()).collect()
}

#[tokio::test]
async fn a_pinned_tool_is_offered_besides_the_ranking_at_once_and_elsewhere_soon() {
    let house = searchers().await;
    let elsewhere = House::on(house.database.clone()).await;
    elsewhere.add(tool("painter", "Paints pictures of animals.", &["generate"]));
    let made = pin(&house, PinToolRequest { note: "house style".into(), ..of("painter") }).await.unwrap();
    assert_eq!((made.create_agent_id.as_str(), made.note.as_str()), ("boss", "house style"));
    let request =
        SelectToolsRequest { required_capabilities: vec!["search".into()], ..task("search the web") };
    let answer = house.select(request).await.unwrap();
    assert_eq!(pinned(&answer), ["painter"]);
    assert!(answer.pinned[0].pinned && answer.pinned[0].reason.starts_with("pinned"), "{:?}", answer.pinned);
    assert_eq!((answer.candidate_count, answer.excluded["capability"]), (2, 1), "it is no candidate by that");
    assert!(answer.primary.is_some_and(|tool| tool.name == "alpha_search" && !tool.pinned));
    until(async || pinned(&elsewhere.select(task("search")).await.unwrap()) == ["painter"]).await;
    let unpin = UnpinToolRequest { pin_id: made.pin_id };
    house.client().unpin_tool(house.by_operator("team", unpin.clone())).await.unwrap();
    assert!(pinned(&house.select(task("search")).await.unwrap()).is_empty());
    until(async || pinned(&elsewhere.select(task("search")).await.unwrap()).is_empty()).await;
    let refusal = house.client().unpin_tool(house.by_operator("team", unpin)).await.unwrap_err();
    assert_eq!((refusal.code(), reason_of(&refusal)), (Code::NotFound, Some(ErrorReason::NotFound)));
}

#[tokio::test]
async fn no_pin_offers_what_may_not_be_called_or_cannot_be() {
    let house = searchers().await;
    for name in ["painter", "alpha_search"] {
        pin(&house, of(name)).await.unwrap();
    }
    house.refuse("painter", "NO_GRANT");
    let answer = house.select(task("search the web")).await.unwrap();
    assert_eq!(pinned(&answer), ["alpha_search"]);
    assert!(answer.primary.is_some_and(|tool| tool.pinned), "it is ranked, and pinned");
    let filtered = SelectToolsRequest { required_capabilities: vec!["search".into()], ..task("search") };
    assert_eq!(pinned(&house.select(filtered).await.unwrap()), ["alpha_search"]);
    house.add_to("team", ToolStatus::Quarantined, tool("alpha_search", "Searches.", &["search"]));
    assert!(pinned(&house.select(task("search")).await.unwrap()).is_empty());
}

#[tokio::test]
async fn a_pin_is_for_an_agent_or_a_kind_of_task_and_for_its_team_alone() {
    let house = searchers().await;
    pin(&house, PinToolRequest { agent_id: "painter-agent".into(), ..of("painter") }).await.unwrap();
    pin(&house, PinToolRequest { category: Category::FileIo.into(), ..of("beta_search") }).await.unwrap();
    let of_agent = async |team: &str, agent: &str, category: Category| {
        let request = SelectToolsRequest { category: category.into(), ..task("search") };
        let answer = house.select_as(team, agent, request).await.unwrap();
        pinned(&answer).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert!(of_agent("team", "scout", Category::Custom).await.is_empty());
    assert_eq!(of_agent("team", "painter-agent", Category::Custom).await, ["painter"]);
    assert_eq!(of_agent("team", "scout", Category::FileIo).await, ["beta_search"]);
    house.add_to("other", ToolStatus::Active, tool("painter", "Paints.", &[]));
    assert!(of_agent("other", "painter-agent", Category::Custom).await.is_empty());
}

#[tokio::test]
async fn wrong_pins_are_refused_and_pinning_again_changes_the_note() {
    let house = searchers().await;
    let refusal = pin(&house, of("alpha_serch")).await.unwrap_err();
    assert_eq!((refusal.code(), reason_of(&refusal)), (Code::NotFound, Some(ErrorReason::ToolNotFound)));
    assert!(refusal.message().contains("alpha_search"), "{}", refusal.message());
    for request in [
        of(""),
        PinToolRequest { note: "x".repeat(1_025), ..of("painter") },
        PinToolRequest { note: "a\0b".into(), ..of("painter") },
        PinToolRequest { agent_id: "a\nb".into(), ..of("painter") },
        PinToolRequest { category: 99, ..of("painter") },
    ] {
        assert_eq!(
            pin(&house, request.clone()).await.unwrap_err().code(),
            Code::InvalidArgument,
            "{request:?}"
        );
    }
    let unpin = house.by_operator("team", UnpinToolRequest { pin_id: "x".into() });
    assert_eq!(house.client().unpin_tool(unpin).await.unwrap_err().code(), Code::InvalidArgument);
    let first = pin(&house, of("painter")).await.unwrap();
    let again = pin(&house, PinToolRequest { note: "why".into(), ..of("painter") }).await.unwrap();
    assert_eq!((&again.pin_id, again.note.as_str()), (&first.pin_id, "why"));
    for number in 1..100 {
        pin(&house, PinToolRequest { agent_id: format!("agent-{number}"), ..of("painter") }).await.unwrap();
    }
    let refusal =
        pin(&house, PinToolRequest { agent_id: "one more".into(), ..of("painter") }).await.unwrap_err();
    assert_eq!(refusal.code(), Code::InvalidArgument);
    assert!(refusal.message().contains("unpin one"), "{}", refusal.message());
    let list = house.by_operator("team", ListPinsRequest {});
    assert_eq!(house.client().list_pins(list).await.unwrap().into_inner().pins.len(), 100);
}
