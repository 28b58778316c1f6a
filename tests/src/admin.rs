//! What the admin of a team sets up before a scenario begins. Every call must succeed.

use proto::{
    permissions::v1::{
        Agent, CreateAgentRequest, Grant, GrantPermissionRequest, IssueApiKeyRequest, Role, grant::Grantee,
    },
    registry::v1::{RegisterToolRequest, Tool, ToolDefinition},
};

use crate::Client;

impl Client {
    /// Registers a tool.
    pub async fn register(&self, definition: impl Into<ToolDefinition>) -> Tool {
        let request =
            RegisterToolRequest { definition: Some(definition.into()), ..RegisterToolRequest::default() };
        self.registry().register_tool(request).await.unwrap().into_inner().tool.unwrap()
    }

    /// Makes a member of the team.
    pub async fn create_agent(&self, id: &str, specialization: &str, role: Role) {
        let agent = Agent {
            id: id.to_owned(),
            specialization: specialization.to_owned(),
            role: role.into(),
            ..Agent::default()
        };
        self.permissions().create_agent(CreateAgentRequest { agent: Some(agent) }).await.unwrap();
    }

    /// A new key of an agent, and its id.
    pub async fn issue_key(&self, agent: &str) -> (String, String) {
        let request =
            IssueApiKeyRequest { agent_id: agent.to_owned(), ttl_s: 0, ..IssueApiKeyRequest::default() };
        let issued = self.permissions().issue_api_key(request).await.unwrap().into_inner();
        (issued.api_key, issued.key_id)
    }

    /// Lets an agent call a tool within the limits of this grant.
    pub async fn grant(&self, agent: &str, tool: &str, limits: Grant) -> Grant {
        let grantee = Some(Grantee::AgentId(agent.to_owned()));
        let grant = Grant { grantee, tool_name: tool.to_owned(), ..limits };
        let request = GrantPermissionRequest { grant: Some(grant) };
        self.permissions().grant_permission(request).await.unwrap().into_inner().grant.unwrap()
    }
}
