//! The service as others see it: behind the stack, through the generated client.

use ::rpc::{Link, Outgoing, PageKey, StackOptions, TokenKey, reason_of, stack};
use proto::{
    permissions::v1::{
        self as wire, AuthenticateRequest, AuthorizeRequest, BatchAuthorizeRequest,
        BatchSettleReservationsRequest, CreateAgentRequest, GetBudgetRequest, GrantPermissionRequest,
        IssueApiKeyRequest, SetBudgetRequest, SettleReservationRequest, WhoAmIRequest,
        permissions_service_client::PermissionsServiceClient,
    },
    types::v1 as words,
};
use secrecy::SecretString;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Code, Request};

use super::*;
use crate::{Config, Parts};

pub(super) struct Suite {
    pub(super) client: PermissionsServiceClient<Link>,
    key: TokenKey,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Suite {
    pub(super) fn start(database: Database) -> Self {
        Self::start_with(database, |_| ())
    }

    /// The same with settings that are changed.
    pub(super) fn start_with(database: Database, change: impl FnOnce(&mut Config)) -> Self {
        let secret = SecretString::from("s".repeat(32));
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let parts = Parts {
            database,
            pages: PageKey::new(&secret),
            api_key_pepper: secret.clone(),
            environment: "dev".into(),
            registry: registry::link(),
            audit: ::rpc::later("audit").1,
            outgoing: ::rpc::Outgoing::new("permissions", TokenKey::new(&secret)),
            redaction: std::sync::Arc::default(),
            seal: [7; 32],
            authorities: reach::Authorities::default(),
            stop: stop.clone(),
            tasks: tasks.clone(),
        };
        let mut config = Config {
            listen: ([127, 0, 0, 1], 0).into(),
            reservation_ttl_s: 900,
            sweep_interval_s: 30,
            issuers: Vec::new(),
            access_request_retention_days: 400,
            webhook_retry_s: vec![1],
            webhook_timeout_s: 2,
            webhook_private_hosts: Vec::new(),
        };
        change(&mut config);
        let routes = crate::start(&config, parts).unwrap();
        let key = TokenKey::new(&secret);
        let link = stack(routes, StackOptions { key: key.clone(), max_concurrent_requests: 256 });
        Self { client: PermissionsServiceClient::new(link), key, stop, tasks }
    }

    /// A request of an agent itself.
    pub(super) fn as_agent<T>(&self, caller: &Caller, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let token = self.key.mint(caller).unwrap().parse().unwrap();
        request.metadata_mut().insert(::rpc::CALLER_HEADER, token);
        request
    }

    /// A request of the executor on an agent's behalf.
    pub(super) fn on_behalf<T>(&self, caller: &Caller, message: T) -> Request<T> {
        self.outgoing().request(caller, Duration::from_secs(10), message)
    }

    pub(super) fn outgoing(&self) -> Outgoing {
        Outgoing::new("executor", self.key.clone())
    }

    pub(super) async fn end(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

pub(super) fn authorize_request() -> AuthorizeRequest {
    AuthorizeRequest {
        tool_name: "python_sandbox".into(),
        execution_id: random().to_string(),
        effect: words::Effect::ReadOnly.into(),
        ..AuthorizeRequest::default()
    }
}

#[tokio::test]
async fn a_call_is_decided_reserved_and_settled_over_grpc() {
    let suite = Suite::start(team().await);
    let mut client = suite.client.clone();
    let (root, scout) = (caller("root", Role::Admin), caller("scout", Role::Agent));
    let denied = client.authorize(suite.on_behalf(&scout, authorize_request())).await.unwrap().into_inner();
    assert_eq!((denied.allowed, denied.reason.as_str(), denied.reserved), (false, "NO_GRANT", false));
    let new = wire::Grant {
        grantee: Some(wire::grant::Grantee::Specialization("Researcher".into())),
        tool_name: "python_sandbox".into(),
        max_per_hour: 1,
        read_only: true,
        max_sensitivity: words::Sensitivity::Internal.into(),
        ..wire::Grant::default()
    };
    let request = suite.as_agent(&root, GrantPermissionRequest { grant: Some(new.clone()) });
    let made = client.grant_permission(request).await.unwrap().into_inner();
    let grant = made.grant.unwrap();
    assert_eq!((&grant.grantee, grant.read_only, grant.max_per_hour), (&new.grantee, true, 1));
    assert_eq!((grant.max_sensitivity(), grant.created_by.as_str()), (words::Sensitivity::Internal, "root"));

    // The token's specialization is empty: the agent's row is what counts.
    let allowed = client.authorize(suite.on_behalf(&scout, authorize_request())).await.unwrap().into_inner();
    assert_eq!((allowed.allowed, allowed.reason.as_str(), allowed.reserved), (true, "", true));
    assert_eq!(
        (allowed.grant_id, allowed.policy_ids),
        (grant.id, vec!["grant-to-specialization".to_owned()])
    );
    let quota = allowed.quota.unwrap();
    assert_eq!((quota.limit, quota.used), (1, 1));
    let facts = wire::ToolFacts { tool_name: "python_sandbox".into(), ..wire::ToolFacts::default() };
    let batch = suite.as_agent(&scout, BatchAuthorizeRequest { tools: vec![facts] });
    let decisions = client.batch_authorize(batch).await.unwrap().into_inner().decisions;
    // An effect that is not said is SIDE_EFFECT.
    assert_eq!((decisions[0].allowed, decisions[0].reason.as_str()), (false, "READ_ONLY_GRANT"));
    let settle =
        SettleReservationRequest { decision_id: allowed.decision_id, committed: false, ..Default::default() };
    client.settle_reservation(suite.on_behalf(&scout, settle)).await.unwrap();
    let again = client.authorize(suite.on_behalf(&scout, authorize_request())).await.unwrap().into_inner();
    assert!(again.allowed);
    suite.end().await;
}

#[tokio::test]
async fn only_admins_make_agents_and_keys_and_only_services_authorize() {
    let suite = Suite::start(team().await);
    let mut client = suite.client.clone();
    let (root, scout) = (caller("root", Role::Admin), caller("scout", Role::Operator));
    let agent = wire::Agent { id: "new".into(), role: wire::Role::Admin.into(), ..wire::Agent::default() };
    let request = CreateAgentRequest { agent: Some(agent) };
    let refused = client.create_agent(suite.as_agent(&scout, request.clone())).await.unwrap_err();
    assert_eq!(reason_of(&refused), Some(ErrorReason::RoleRequired));
    let refused = client.authorize(suite.as_agent(&root, authorize_request())).await.unwrap_err();
    assert_eq!(reason_of(&refused), Some(ErrorReason::RoleRequired));
    let made = client.create_agent(suite.as_agent(&root, request)).await.unwrap().into_inner();
    assert_eq!(made.agent.unwrap().role(), wire::Role::Admin);
    let issue = IssueApiKeyRequest { agent_id: "new".into(), ttl_s: 0, ..IssueApiKeyRequest::default() };
    let issued = client.issue_api_key(suite.as_agent(&root, issue)).await.unwrap().into_inner();
    let present = |api_key: String| {
        suite.on_behalf(
            &Caller::service("edge"),
            AuthenticateRequest { credential: api_key, ..AuthenticateRequest::default() },
        )
    };
    let owner = client.authenticate(present(issued.api_key.clone())).await.unwrap().into_inner();
    assert_eq!(
        (owner.team_id.as_str(), owner.agent_id.as_str(), owner.role()),
        ("t", "new", wire::Role::Admin)
    );
    let wrong = client.authenticate(present(format!("{}0", issued.api_key))).await.unwrap_err();
    assert_eq!(
        (wrong.code(), reason_of(&wrong)),
        (Code::Unauthenticated, Some(ErrorReason::Unauthenticated))
    );
    let me = client.who_am_i(suite.as_agent(&scout, WhoAmIRequest {})).await.unwrap().into_inner();
    assert_eq!((me.agent_id.as_str(), me.role()), ("scout", wire::Role::Operator));
    suite.end().await;
}

#[tokio::test]
async fn a_batch_of_settlements_is_for_services_of_any_team_and_well_formed() {
    let database = team().await;
    people(&database, "other").await;
    for team in ["t", "other"] {
        let root = Caller { team: team.into(), ..caller("root", Role::Admin) };
        grant_permission(&database, &root, new_grant(to_agent("scout"), 5), noon()).await.unwrap();
    }
    let suite = Suite::start(database);
    let mut client = suite.client.clone();
    let mut settlements = Vec::new();
    for team_id in ["t", "other"] {
        let scout = Caller { team: team_id.into(), ..caller("scout", Role::Agent) };
        let decision = client.authorize(suite.on_behalf(&scout, authorize_request())).await.unwrap();
        let decision_id = decision.into_inner().decision_id;
        settlements.push(wire::Settlement {
            team_id: team_id.into(),
            agent_id: "scout".into(),
            decision_id,
            ..Default::default()
        });
    }
    settlements.push(wire::Settlement { decision_id: random().to_string(), ..settlements[0].clone() });
    let batch = |settlements: &[wire::Settlement]| BatchSettleReservationsRequest {
        settlements: settlements.to_vec(),
    };
    let root = caller("root", Role::Admin);
    let refused = client.batch_settle_reservations(suite.as_agent(&root, batch(&settlements))).await;
    assert_eq!(reason_of(&refused.unwrap_err()), Some(ErrorReason::RoleRequired));
    let own = |message| suite.outgoing().own_request(Duration::from_secs(10), message);
    for wrong in ["decision", "team"] {
        let mut settlements = settlements.clone();
        match wrong {
            "team" => settlements[1].team_id.clear(),
            _ => settlements[1].decision_id = "x".into(),
        }
        let refused = client.batch_settle_reservations(own(batch(&settlements))).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{wrong}");
    }
    for _ in 0..2 {
        let results = client.batch_settle_reservations(own(batch(&settlements))).await.unwrap().into_inner();
        let found: Vec<_> = results.results.iter().map(|result| result.found).collect();
        assert_eq!(found, [true, true, false]);
    }
    let none = client.batch_settle_reservations(own(batch(&[]))).await.unwrap().into_inner();
    assert_eq!(none.results, []);
    let again = client.authorize(suite.on_behalf(&caller("scout", Role::Agent), authorize_request())).await;
    // The place of the first was given back.
    assert_eq!(again.unwrap().into_inner().quota.unwrap().used, 1);
    suite.end().await;
}

#[tokio::test]
async fn a_budget_is_set_by_admins_told_to_all_and_holds_over_grpc() {
    let database = team().await;
    grant(&database, to_agent("scout"), 0).await;
    let suite = Suite::start(database);
    let mut client = suite.client.clone();
    let (root, scout) = (caller("root", Role::Admin), caller("scout", Role::Operator));
    let costing = |cost_micro_usd| {
        let request = AuthorizeRequest { cost_micro_usd, ..authorize_request() };
        suite.on_behalf(&scout, request)
    };
    let free = client.authorize(costing(70)).await.unwrap().into_inner();
    assert_eq!((free.allowed, free.reserved, free.budget), (true, false, None));
    let set = SetBudgetRequest { daily_micro_usd: 100 };
    let refused = client.set_budget(suite.as_agent(&scout, set)).await.unwrap_err();
    assert_eq!(reason_of(&refused), Some(ErrorReason::RoleRequired));
    let set = client.set_budget(suite.as_agent(&root, set)).await.unwrap().into_inner().budget.unwrap();
    assert_eq!((set.daily_micro_usd, set.spent_micro_usd, set.reserved_micro_usd), (100, 0, 0));
    // From the very next decision on.
    let allowed = client.authorize(costing(70)).await.unwrap().into_inner();
    let budget = allowed.budget.unwrap();
    assert_eq!((allowed.reserved, budget.limit, budget.used), (true, 100, 70));
    assert_eq!(budget.reset_time, set.reset_time);
    let denied = client.authorize(costing(31)).await.unwrap().into_inner();
    assert_eq!((denied.allowed, denied.reason.as_str()), (false, "BUDGET_EXHAUSTED"));
    assert_eq!(denied.budget.unwrap().used, 70);
    let decision_id = allowed.decision_id;
    let settle = SettleReservationRequest { decision_id, committed: true, cost_micro_usd: 60 };
    client.settle_reservation(suite.on_behalf(&scout, settle)).await.unwrap();
    let told = client.get_budget(suite.as_agent(&scout, GetBudgetRequest {})).await.unwrap().into_inner();
    let told = told.budget.unwrap();
    assert_eq!((told.daily_micro_usd, told.spent_micro_usd, told.reserved_micro_usd), (100, 60, 0));
    let refused = client.authorize(costing(-1)).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    suite.end().await;
}
