//! The callers of Execute: what they send, over which links, and what they take for an answer.

use std::{net::SocketAddr, sync::Arc};

use proto::executor::v1::{
    ExecuteRequest, ExecutionStatus, execute_request::Input, executor_service_client::ExecutorServiceClient,
};
use rpc::Link;
use serde::{Deserialize, Serialize};
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    transport::Endpoint,
};
use tower::{ServiceExt, util::BoxCloneSyncService};

use crate::{
    house::RUNG_HEADER,
    load::{self, Loop, Measured},
};

/// Callers that share a connection.
const CALLERS_A_CONNECTION: usize = 16;

/// What is called, again and again.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct What {
    /// The tool.
    pub tool: String,
    /// Its arguments, as JSON text.
    pub arguments_json: String,
    /// The API key; empty where nobody asks for one.
    pub key: String,
    /// The rung at which calls end; `None`: they are whole.
    pub rung: Option<usize>,
    /// Whether each call has a request id of its own.
    pub with_request_id: bool,
}

impl What {
    fn request(&self) -> Request<ExecuteRequest> {
        let request_id = if self.with_request_id { types::new_id().to_string() } else { String::new() };
        let mut request = Request::new(ExecuteRequest {
            tool: self.tool.clone(),
            input: Some(Input::ArgumentsJson(self.arguments_json.clone())),
            request_id,
            ..ExecuteRequest::default()
        });
        let text = |text: String| MetadataValue::<Ascii>::try_from(text).expect("plain text");
        if !self.key.is_empty() {
            request.metadata_mut().insert("authorization", text(format!("Bearer {}", self.key)));
        }
        if let Some(rung) = self.rung {
            request.metadata_mut().insert(RUNG_HEADER, text(rung.to_string()));
        }
        request
    }
}

/// A link to an address: a connection of its own.
pub fn connect(address: SocketAddr) -> Link {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address is a URL");
    let channel = endpoint.tcp_nodelay(true).connect_lazy();
    BoxCloneSyncService::new(channel.map_err(|error| Status::unavailable(error.to_string())))
}

/// As many links to an address as so many callers need.
pub fn connections(address: SocketAddr, callers: usize) -> Vec<Link> {
    (0..callers.div_ceil(CALLERS_A_CONNECTION)).map(|_| connect(address)).collect()
}

/// Calls over these links in turn; `begin` and `end` are called around the counted time.
pub async fn measure(
    links: &[Link],
    what: &What,
    plan: Loop,
    begin: impl FnOnce(),
    end: impl FnOnce(),
) -> Measured {
    let what = Arc::new(what.clone());
    let caller = |index: usize| {
        let client = ExecutorServiceClient::new(links[index % links.len()].clone());
        let what = Arc::clone(&what);
        move || call(client.clone(), what.request())
    };
    load::run(plan, caller, begin, end).await
}

/// One call that has to succeed.
async fn call(
    mut client: ExecutorServiceClient<Link>,
    request: Request<ExecuteRequest>,
) -> Result<(), String> {
    let answer = client.execute(request).await.map_err(|status| format!("{status:?}"))?.into_inner();
    let execution = answer.execution.unwrap_or_default();
    match execution.status() {
        ExecutionStatus::Succeeded => Ok(()),
        _ => Err(format!("{execution:?}")),
    }
}
