//! Who may use which RPC: the one table. An RPC that is not in it does not exist for any caller.

use types::{Caller, Role, Scope};

/// Who may use an RPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Services of the suite only.
    Service,
    /// Agents of at least this role with this scope, and services on their behalf.
    AtLeast(Role, Scope),
}

/// What a caller lacks to use an RPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lack {
    /// To be a service of the suite.
    Service,
    /// This role, or a higher one.
    Role(Role),
    /// A key with this scope.
    Scope(Scope),
}

impl Access {
    /// Whether this caller may use it, and if not, what it lacks.
    pub fn admits(self, caller: &Caller) -> Result<(), Lack> {
        match self {
            _ if caller.is_service() => Ok(()),
            Self::Service => Err(Lack::Service),
            Self::AtLeast(role, _) if caller.role < role => Err(Lack::Role(role)),
            Self::AtLeast(_, scope) if !caller.has_scope(scope) => Err(Lack::Scope(scope)),
            Self::AtLeast(..) => Ok(()),
        }
    }
}

const SERVICE: Access = Access::Service;

const fn any(scope: Scope) -> Access {
    Access::AtLeast(Role::Agent, scope)
}

const fn auditor(scope: Scope) -> Access {
    Access::AtLeast(Role::Auditor, scope)
}

const fn operator(scope: Scope) -> Access {
    Access::AtLeast(Role::Operator, scope)
}

const fn admin(scope: Scope) -> Access {
    Access::AtLeast(Role::Admin, scope)
}

/// Service, method, and who may use it.
const TABLE: &[(&str, &[(&str, Access)])] = &[
    (
        "registry.v1.RegistryService",
        &[
            ("GetTool", any(Scope::ToolsRead)),
            ("ListTools", any(Scope::ToolsRead)),
            ("ListToolVersions", any(Scope::ToolsRead)),
            ("WatchTools", any(Scope::ToolsRead)),
            ("RegisterTool", operator(Scope::ToolsWrite)),
            ("SetToolStatus", operator(Scope::ToolsWrite)),
            ("UpdateTool", operator(Scope::ToolsWrite)),
            ("SetFallbacks", operator(Scope::ToolsWrite)),
            ("GetFallbacks", any(Scope::ToolsRead)),
            ("RegisterServer", operator(Scope::ToolsWrite)),
            ("ListServers", operator(Scope::ToolsRead)),
            ("RefreshServer", operator(Scope::ToolsWrite)),
            ("RemoveServer", operator(Scope::ToolsWrite)),
            ("SearchTools", any(Scope::ToolsRead)),
            ("ExportTools", any(Scope::ToolsRead)),
            ("ApproveDefinition", operator(Scope::ToolsWrite)),
            ("ImportOpenApi", operator(Scope::ToolsWrite)),
            ("ImportGrpc", operator(Scope::ToolsWrite)),
            ("GetRegistryHealth", operator(Scope::ToolsRead)),
            ("PutCredential", admin(Scope::CredentialsWrite)),
            ("RotateCredential", admin(Scope::CredentialsWrite)),
            ("RevokeCredential", admin(Scope::CredentialsWrite)),
            ("ListCredentials", operator(Scope::ToolsRead)),
            ("ResolveCredential", SERVICE),
        ],
    ),
    (
        "selector.v1.SelectorService",
        &[
            ("SelectTools", any(Scope::ToolsCall)),
            ("RecordOutcomes", SERVICE),
            ("RecordFeedback", any(Scope::ToolsCall)),
            ("GetEffectiveness", any(Scope::ExecutionsRead)),
            ("ListRecommendations", any(Scope::ToolsCall)),
            ("ListSelections", any(Scope::ExecutionsRead)),
            ("GetUsagePatterns", operator(Scope::ExecutionsRead)),
            ("PinTool", operator(Scope::ToolsWrite)),
            ("UnpinTool", operator(Scope::ToolsWrite)),
            ("ListPins", any(Scope::ToolsRead)),
            ("RefitPolicy", operator(Scope::ToolsWrite)),
            ("ActivatePolicy", operator(Scope::ToolsWrite)),
            ("ListPolicies", any(Scope::ToolsRead)),
            ("GetSelectorHealth", any(Scope::ToolsRead)),
            ("EraseUser", SERVICE),
        ],
    ),
    (
        "executor.v1.ExecutorService",
        &[
            ("Execute", any(Scope::ToolsCall)),
            ("StartExecution", any(Scope::ToolsCall)),
            ("GetExecution", any(Scope::ToolsCall)),
            ("WatchExecution", any(Scope::ToolsCall)),
            ("CancelExecution", any(Scope::ToolsCall)),
            ("ListExecutions", any(Scope::ExecutionsRead)),
            ("BatchExecute", any(Scope::ToolsCall)),
            ("GetToolMetrics", any(Scope::ExecutionsRead)),
            ("ListToolMetrics", any(Scope::ExecutionsRead)),
            ("GetCacheStats", any(Scope::ExecutionsRead)),
            ("InvalidateCache", operator(Scope::ToolsWrite)),
            ("ListIntents", SERVICE),
            ("EraseUser", SERVICE),
        ],
    ),
    (
        "permissions.v1.PermissionsService",
        &[
            ("Authorize", SERVICE),
            ("SettleReservation", SERVICE),
            ("BatchSettleReservations", SERVICE),
            ("Authenticate", SERVICE),
            ("EraseUser", SERVICE),
            ("BatchAuthorize", any(Scope::ToolsRead)),
            ("Explain", any(Scope::PermissionsRead)),
            ("WhoAmI", any(Scope::ToolsRead)),
            ("ListGrants", any(Scope::PermissionsRead)),
            ("GetUsageReport", auditor(Scope::PermissionsRead)),
            ("GetBudget", any(Scope::PermissionsRead)),
            ("SetBudget", admin(Scope::PermissionsWrite)),
            ("GrantPermission", admin(Scope::PermissionsWrite)),
            ("RevokePermission", admin(Scope::PermissionsWrite)),
            ("PutPolicy", admin(Scope::PermissionsWrite)),
            ("RemovePolicy", admin(Scope::PermissionsWrite)),
            ("ListPolicies", auditor(Scope::PermissionsRead)),
            ("DryRunPolicy", admin(Scope::PermissionsRead)),
            ("RequestAccess", any(Scope::ToolsCall)),
            ("GetAccessRequest", any(Scope::ToolsCall)),
            ("ListAccessRequests", any(Scope::PermissionsRead)),
            ("DecideAccessRequest", auditor(Scope::PermissionsWrite)),
            ("RevokeAccess", auditor(Scope::PermissionsWrite)),
            ("WatchAccessRequests", SERVICE),
            ("PutWebhook", admin(Scope::PermissionsWrite)),
            ("ListWebhooks", admin(Scope::PermissionsRead)),
            ("RemoveWebhook", admin(Scope::PermissionsWrite)),
            ("CreateAgent", admin(Scope::PermissionsWrite)),
            ("UpdateAgent", admin(Scope::PermissionsWrite)),
            ("ListAgents", auditor(Scope::PermissionsRead)),
            ("IssueApiKey", admin(Scope::PermissionsWrite)),
            ("RotateApiKey", admin(Scope::PermissionsWrite)),
            ("ListApiKeys", auditor(Scope::PermissionsRead)),
            ("RevokeApiKey", admin(Scope::PermissionsWrite)),
        ],
    ),
    (
        "audit.v1.AuditService",
        &[
            ("AppendEvents", SERVICE),
            ("QueryTrail", any(Scope::AuditRead)),
            ("WatchTrail", auditor(Scope::AuditRead)),
            ("GetCheckpoint", auditor(Scope::AuditRead)),
            ("GetInclusionProof", auditor(Scope::AuditRead)),
            ("GetConsistencyProof", auditor(Scope::AuditRead)),
            ("ExportTrail", auditor(Scope::AuditRead)),
            ("GetTrailHealth", auditor(Scope::AuditRead)),
            ("ReconcileTrail", auditor(Scope::AuditRead)),
            ("GenerateReport", auditor(Scope::AuditRead)),
            ("RecordReview", auditor(Scope::AuditWrite)),
            ("GetUsage", any(Scope::AuditRead)),
            ("GetCosts", any(Scope::AuditRead)),
            ("EraseSubject", admin(Scope::AuditWrite)),
            ("PlaceHold", admin(Scope::AuditWrite)),
            ("ReleaseHold", admin(Scope::AuditWrite)),
            ("ListHolds", auditor(Scope::AuditRead)),
        ],
    ),
];

/// Who may use the RPC at this path, such as `/toolcrib.audit.v1.AuditService/QueryTrail`.
/// `None`: there is no such RPC.
pub fn access_of(path: &str) -> Option<Access> {
    let (service, method) = path.strip_prefix("/toolcrib.")?.split_once('/')?;
    let (_, methods) = TABLE.iter().find(|(name, _)| *name == service)?;
    methods.iter().find(|(name, _)| *name == method).map(|(_, access)| *access)
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    /// Every path that the contracts define.
    fn paths() -> Vec<String> {
        let set = prost_types::FileDescriptorSet::decode(proto::DESCRIPTORS).unwrap();
        let mut paths = Vec::new();
        for file in &set.file {
            for service in &file.service {
                for method in &service.method {
                    paths.push(format!("/{}.{}/{}", file.package(), service.name(), method.name()));
                }
            }
        }
        paths
    }

    #[test]
    fn every_rpc_of_the_contracts_has_its_access() {
        let paths = paths();
        assert!(paths.len() > 20, "the descriptors hold {} RPCs", paths.len());
        let without: Vec<_> = paths.iter().filter(|path| access_of(path).is_none()).collect();
        assert_eq!(without, Vec::<&String>::new());
    }

    #[test]
    fn a_key_is_held_to_its_scopes() {
        let caller = Caller {
            role: Role::Admin,
            scopes: vec![Scope::ToolsRead],
            service: None,
            ..Caller::service("x")
        };
        assert_eq!(any(Scope::ToolsRead).admits(&caller), Ok(()));
        assert_eq!(any(Scope::ToolsCall).admits(&caller), Err(Lack::Scope(Scope::ToolsCall)));
        assert_eq!(any(Scope::ToolsCall).admits(&caller.through("executor")), Ok(()));
    }

    #[test]
    fn a_role_includes_those_before_it_and_no_agent_is_a_service() {
        let mut caller = Caller { role: Role::Operator, service: None, ..Caller::service("x") };
        let scope = Scope::ToolsWrite;
        assert_eq!((any(scope).admits(&caller), operator(scope).admits(&caller)), (Ok(()), Ok(())));
        assert_eq!(admin(scope).admits(&caller), Err(Lack::Role(Role::Admin)));
        caller.role = Role::Admin;
        assert_eq!(Access::Service.admits(&caller), Err(Lack::Service));
        assert!(access_of("/toolcrib.audit.v1.AuditService/Nothing").is_none());
    }
}
