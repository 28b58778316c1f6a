//! Access requests: who may ask, see and decide; that the first decision stands; and that what was approved allows
//! exactly that, for as long as it says.

mod asking;
mod deciding;
mod ending;
mod erasing;
mod late;
mod revoking;
mod serving;
mod watching;

use ::rpc::{Link, Outgoing, PageKey, ServiceError, StackOptions, TokenKey, stack, status_with_reason};
use proto::{
    permissions::v1 as wire,
    registry::v1::{
        GetToolRequest, GetToolResponse, Tool, ToolDefinition,
        get_tool_request::Key,
        registry_service_server::{RegistryService, RegistryServiceServer},
    },
};
use secrecy::SecretString;
use serde_json::json;
use tonic::{Request, Response, Status, service::Routes};
use types::Kind;

use super::*;
use crate::{
    access_requests::{self, NewAccessRequest, Registry, Revocation, Verdict, purge, sweep},
    authorize::ArgumentsText,
    store::{AccessRequestFilter, AccessRequestRow, GrantRow},
};

const TOOL: &str = "python_sandbox";

/// A registry with one tool, whose definition may change.
#[derive(Clone, Default)]
struct Shelf(Arc<std::sync::Mutex<String>>);

#[tonic::async_trait]
impl RegistryService for Shelf {
    async fn get_tool(&self, request: Request<GetToolRequest>) -> Result<Response<GetToolResponse>, Status> {
        let Some(Key::Name(name)) = request.into_inner().key else { panic!("asked by name") };
        if name != TOOL {
            return Err(status_with_reason(Kind::NotFound, ErrorReason::ToolNotFound, "there is none"));
        }
        let schema = json!({"properties": {"pin": {"writeOnly": true}}});
        let definition =
            ToolDefinition { name, input_schema_json: schema.to_string(), ..ToolDefinition::default() };
        let digest = self.0.lock().unwrap().clone();
        let tool = Tool { digest, definition: Some(definition), ..Tool::default() };
        Ok(Response::new(GetToolResponse { tool: Some(tool) }))
    }
}

struct Place {
    database: Database,
    desk: Desk,
    shelf: Shelf,
    link: Link,
    outgoing: Outgoing,
    pages: PageKey,
}

impl Place {
    async fn new() -> Self {
        let secret = SecretString::from("s".repeat(32));
        let (shelf, key) = (Shelf::default(), TokenKey::new(&secret));
        *shelf.0.lock().unwrap() = "d".into();
        let routes = Routes::new(RegistryServiceServer::new(shelf.clone()));
        let link = stack(routes, StackOptions { key: key.clone(), max_concurrent_requests: 64 });
        let database = team().await;
        let outgoing = Outgoing::new("permissions", key);
        Self { desk: desk(&database), database, shelf, link, outgoing, pages: PageKey::new(&secret) }
    }

    fn registry(&self) -> Registry<'_> {
        Registry { link: &self.link, outgoing: &self.outgoing }
    }

    async fn ask(&self, caller: &Caller, new: NewAccessRequest) -> Result<AccessRequestRow, Error> {
        self.ask_at(caller, new, noon()).await
    }

    async fn ask_at(
        &self,
        caller: &Caller,
        new: NewAccessRequest,
        now: DateTime<Utc>,
    ) -> Result<AccessRequestRow, Error> {
        access_requests::request((&self.database, &self.desk, self.registry()), caller, new, now).await
    }

    async fn decide(&self, caller: &Caller, verdict: Verdict) -> Result<AccessRequestRow, Error> {
        let parts = (&self.database, &*self.desk.teams, self.registry());
        access_requests::decide(parts, caller, verdict, noon()).await.map(|(row, _)| row)
    }

    async fn revoke(&self, caller: &Caller, id: Uuid, reason: &str) -> Result<AccessRequestRow, Error> {
        let revocation = Revocation { id, reason: reason.into() };
        let parts = (&self.database, &*self.desk.teams);
        access_requests::revoke(parts, caller, revocation, noon()).await.map(|(row, _)| row)
    }

    async fn get(&self, caller: &Caller, id: Uuid, now: DateTime<Utc>) -> Result<AccessRequestRow, Error> {
        access_requests::get(&self.database, caller, id, now).await
    }

    /// A request of scout for these arguments, decided in this way by root.
    async fn approved(&self, arguments: &serde_json::Value, scope: wire::ApprovalScope) -> AccessRequestRow {
        let request = self.ask(&scout(), wanted(arguments)).await.unwrap();
        self.decide(&root(), Verdict { scope, ..approval(&request) }).await.unwrap()
    }

    /// Lets scout call the tool with the approval of this role, where the arguments meet this.
    async fn give(&self, approver_role: Role, conditions: Vec<wire::ArgumentCondition>) {
        let grant = GrantRow::plain("t", (Some("scout".into()), None), TOOL, ("root", noon()));
        let conditions = crate::condition::parse("conditions", conditions).unwrap();
        self.give_row(&GrantRow { approver_role: Some(approver_role), conditions, ..grant }).await;
    }

    async fn give_row(&self, grant: &GrantRow) {
        let mut connection = self.database.pool().unwrap().acquire().await.unwrap();
        let revision = store::revision_next(&mut connection, "t", noon()).await.unwrap();
        store::grant_add(&mut connection, "t", grant, revision).await.unwrap();
        self.desk.teams.changed("t", revision);
    }

    async fn decided_on(&self, arguments: &serde_json::Value) -> Option<ErrorReason> {
        self.desk.authorize(&call(arguments), noon()).await.unwrap().reason
    }

    async fn events(&self) -> i64 {
        self.number("SELECT count(*) FROM permissions.outbox").await
    }

    async fn number(&self, query: &'static str) -> i64 {
        sqlx::query_scalar(query).fetch_one(self.database.pool().unwrap()).await.unwrap()
    }

    /// What the trail was told last.
    async fn told(&self) -> proto::audit::v1::Event {
        let last = "SELECT payload FROM permissions.outbox ORDER BY id DESC LIMIT 1";
        let payload: Vec<u8> =
            sqlx::query_scalar(last).fetch_one(self.database.pool().unwrap()).await.unwrap();
        prost::Message::decode(payload.as_slice()).unwrap()
    }
}

fn scout() -> Caller {
    Caller { user: "ann".into(), ..caller("scout", Role::Agent) }
}

fn root() -> Caller {
    caller("root", Role::Admin)
}

fn operator() -> Caller {
    caller("oper", Role::Operator)
}

fn wanted(arguments: &serde_json::Value) -> NewAccessRequest {
    NewAccessRequest {
        tool_name: TOOL.into(),
        arguments_json: arguments.to_string(),
        justification: "the report".into(),
        ..NewAccessRequest::default()
    }
}

fn approval(request: &AccessRequestRow) -> Verdict {
    Verdict {
        id: request.request_id,
        approve: true,
        scope: wire::ApprovalScope::Once,
        conditions: Vec::new(),
        ttl_s: 0,
        reason: "agreed".into(),
        arguments_digest: request.arguments_digest.clone(),
    }
}

fn denial(request: &AccessRequestRow) -> Verdict {
    Verdict { approve: false, reason: "no need".into(), ..approval(request) }
}

/// A call of scout.
fn call(arguments: &serde_json::Value) -> Asked {
    Asked {
        arguments: ArgumentsText::from(arguments.to_string()),
        arguments_digest: types::digest_json(arguments).unwrap(),
        user: "ann".into(),
        ..asked("scout")
    }
}

fn within(folder: &str) -> wire::ArgumentCondition {
    let folders = wire::TextSet { values: vec![folder.into()] };
    let test = Some(wire::argument_condition::Test::Within(folders));
    wire::ArgumentCondition { pointer: "/path".into(), test }
}

fn refusal<T: std::fmt::Debug>(answer: Result<T, Error>) -> (Kind, ErrorReason) {
    let error = answer.unwrap_err();
    (error.kind(), error.reason())
}

async fn futures<T>(all: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut waiting: Vec<_> = all.map(Box::pin).collect();
    let mut done: Vec<Option<T>> = waiting.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        let mut is_over = true;
        for (future, answer) in waiting.iter_mut().zip(&mut done) {
            if answer.is_none() {
                match future.as_mut().poll(context) {
                    std::task::Poll::Ready(value) => *answer = Some(value),
                    std::task::Poll::Pending => is_over = false,
                }
            }
        }
        if is_over { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    done.into_iter().flatten().collect()
}
