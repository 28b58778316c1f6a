//! Tools are found by words and filters, and given to model APIs where the caller may call them.

mod export;
mod search;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use ::rpc::{Call, ErrorReason, reason_of};
use proto::{
    permissions::v1::{
        BatchAuthorizeRequest, BatchAuthorizeResponse, ToolDecision,
        permissions_service_server::{PermissionsService, PermissionsServiceServer},
    },
    registry::v1::{
        ExportFormat, ExportToolsRequest, ExportToolsResponse, ListToolsRequest, SearchToolsRequest,
        SetToolStatusRequest, ToolStatus,
    },
};
use serde_json::{Value, json};
use tonic::{Code, Request, Response, Status, service::Routes};

use super::*;

/// A permissions service that refuses what it is told to.
#[derive(Debug, Clone, Default)]
struct Fake {
    /// Reason by name of tool.
    refused: Arc<Mutex<HashMap<String, String>>>,
    /// Agents that asked.
    asked: Arc<Mutex<Vec<String>>>,
}

#[tonic::async_trait]
impl PermissionsService for Fake {
    async fn batch_authorize(
        &self,
        request: Request<BatchAuthorizeRequest>,
    ) -> Result<Response<BatchAuthorizeResponse>, Status> {
        let caller = Call::of(&request).map_err(|status| *status)?.caller;
        self.asked.lock().unwrap().push(caller.agent);
        let refused = self.refused.lock().unwrap();
        let decisions =
            request.into_inner().tools.into_iter().map(|tool| match refused.get(&tool.tool_name) {
                Some(reason) => ToolDecision { allowed: false, reason: reason.clone() },
                None => ToolDecision { allowed: true, reason: String::new() },
            });
        Ok(Response::new(BatchAuthorizeResponse { decisions: decisions.collect() }))
    }
}

fn permitting(fake: &Fake, database: &Database) -> Registry {
    let routes = Routes::new(PermissionsServiceServer::new(fake.clone()));
    registry_with(routes, mcp::Commands::any(), &config(), database)
}

async fn add(registry: &Registry, definition: ToolDefinition) {
    let request = request!(registry, "team", registration(definition));
    registry.client.clone().register_tool(request).await.unwrap();
}

fn described(name: &str, description: &str) -> ToolDefinition {
    ToolDefinition { description: description.into(), ..definition(name) }
}

async fn shop(registry: &Registry) {
    for (name, description) in [
        ("shop.list_orders", "Gives the purchases of a customer."),
        ("shop.cancel-order", "Ends a purchase before it is shipped."),
        ("warehouse", "Tells where the goods of orders are stored."),
        ("getInvoice".to_lowercase().as_str(), "Fetches a bill."),
    ] {
        add(registry, described(name, description)).await;
    }
    let odd = ToolDefinition {
        title: "Wetter für Zürich".into(),
        capabilities: vec!["forecasting".into()],
        input_schema_json:
            json!({"type": "object", "properties": {"zipCode": {"description": "Postal area"}}}).to_string(),
        ..described("meteo", "Says what falls from the sky.")
    };
    add(registry, odd).await;
}
