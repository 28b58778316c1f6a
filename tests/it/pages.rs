//! Long listings, page by page.

use proto::{audit::v1::QueryTrailRequest, executor::v1::ListExecutionsRequest};
use rpc::ErrorReason;
use serde_json::json;
use tests::{Client, HttpTool, Suite, Upstream, refused};
use tonic::{Code, Status};

tests::scenarios! {
    executions_are_walked_once_each,
    the_trail_is_walked_once_each,
}

const CALLS: usize = 7;
const SIZE: i32 = 3;

/// An agent that has called a tool seven times; the ids of the executions, newest first.
async fn busy_agent(suite: &Suite, tool: &str) -> (Client, Vec<String>) {
    let upstream = Upstream::start().await;
    let agent = suite.agent_with(HttpTool::new(tool, upstream.url("/echo"))).await;
    let mut ids = Vec::new();
    for number in 0..CALLS {
        ids.insert(0, agent.call(tool, json!({ "number": number })).await.id);
    }
    (agent, ids)
}

/// Every page of a listing, each fetched with the token of the one before.
async fn walk(
    mut fetch: impl AsyncFnMut(String) -> Result<(Vec<String>, String), Status>,
) -> Vec<Vec<String>> {
    let mut pages = Vec::new();
    let mut token = String::new();
    loop {
        let (page, next) = fetch(token).await.unwrap();
        pages.push(page);
        if next.is_empty() {
            return pages;
        }
        token = next;
    }
}

async fn executions_are_walked_once_each(suite: &Suite) {
    let (agent, ids) = busy_agent(suite, "paged").await;
    let filter = ListExecutionsRequest {
        tool_name: "paged".into(),
        page_size: SIZE,
        ..ListExecutionsRequest::default()
    };
    let list = async |client: &Client, filter: ListExecutionsRequest| {
        client.executor().list_executions(filter).await.map(tonic::Response::into_inner)
    };
    let pages = walk(async |page_token| {
        let page = list(&agent, ListExecutionsRequest { page_token, ..filter.clone() }).await?;
        Ok((page.executions.into_iter().map(|execution| execution.id).collect(), page.next_page_token))
    })
    .await;
    assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [3, 3, 1]);
    assert_eq!(pages.concat(), ids);

    let page_token = list(&agent, filter.clone()).await.unwrap().next_page_token;
    let same = ListExecutionsRequest { page_token: page_token.clone(), ..filter.clone() };
    let others = [
        ListExecutionsRequest { tool_name: "other".into(), ..same.clone() },
        ListExecutionsRequest { task_id: "other".into(), ..same.clone() },
        ListExecutionsRequest { page_token: page_token[1..].to_owned(), ..same.clone() },
    ];
    for other in others {
        refused_for(list(&agent, other).await, "page_token");
    }
    refused_for(list(&suite.admin, same.clone()).await, "page_token");
    for page_size in [-1, 1_001] {
        refused_for(list(&agent, ListExecutionsRequest { page_size, ..filter.clone() }).await, "page_size");
    }
    list(&agent, same).await.unwrap();
}

async fn the_trail_is_walked_once_each(suite: &Suite) {
    let (agent, ids) = busy_agent(suite, "trailed").await;
    suite.wait_until_delivered().await;
    let filter =
        QueryTrailRequest { agent_id: agent.agent.clone(), page_size: SIZE, ..QueryTrailRequest::default() };
    let query = async |client: &Client, filter: QueryTrailRequest| {
        client.audit().query_trail(filter).await.map(tonic::Response::into_inner)
    };
    let pages = walk(async |page_token| {
        let page = query(&suite.admin, QueryTrailRequest { page_token, ..filter.clone() }).await?;
        let descending = page.events.windows(2).all(|pair| pair[0].id > pair[1].id);
        assert!(descending, "{:?}", page.events);
        Ok((page.events.into_iter().map(|event| event.execution_id).collect(), page.next_page_token))
    })
    .await;
    // A call looks for a bounded time: its page may be short.
    assert!(pages.iter().all(|page| page.len() <= 3) && pages.len() >= 3, "{pages:?}");
    assert_eq!(pages.concat(), ids);

    let page_token = query(&suite.admin, filter.clone()).await.unwrap().next_page_token;
    let same = QueryTrailRequest { page_token: page_token.clone(), ..filter };
    let others = [
        QueryTrailRequest { agent_id: String::new(), ..same.clone() },
        QueryTrailRequest { page_token: format!("{page_token}A"), ..same.clone() },
    ];
    for other in others {
        refused_for(query(&suite.admin, other).await, "page_token");
    }
    let elsewhere = ListExecutionsRequest { page_token, ..ListExecutionsRequest::default() };
    refused_for(suite.admin.executor().list_executions(elsewhere).await, "page_token");
    query(&agent, same).await.unwrap();
}

fn refused_for<T: std::fmt::Debug>(answer: Result<T, Status>, field: &str) {
    let refusal = refused(answer, Code::InvalidArgument, ErrorReason::InvalidRequest);
    assert_eq!(refusal.violations()[0].0, field);
}
