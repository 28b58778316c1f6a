//! Who may use which RPC: the one table. An RPC that is not in it does not exist for any caller.

use types::{Caller, Role};

/// Who may use an RPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Services of the suite only.
    Service,
    /// Agents of at least this role, and services on their behalf.
    AtLeast(Role),
}

impl Access {
    /// Whether this caller may use it.
    pub fn admits(self, caller: &Caller) -> bool {
        match self {
            Self::Service => caller.is_service(),
            Self::AtLeast(role) => caller.is_service() || caller.role >= role,
        }
    }
}

const SERVICE: Access = Access::Service;
const ANY: Access = Access::AtLeast(Role::Agent);
const OPERATOR: Access = Access::AtLeast(Role::Operator);
const ADMIN: Access = Access::AtLeast(Role::Admin);

/// Service, method, and who may use it.
const TABLE: &[(&str, &[(&str, Access)])] = &[
    (
        "registry.v1.RegistryService",
        &[
            ("GetTool", ANY),
            ("ListTools", ANY),
            ("ListToolVersions", ANY),
            ("WatchTools", ANY),
            ("RegisterTool", OPERATOR),
            ("SetToolStatus", OPERATOR),
            ("UpdateTool", OPERATOR),
            ("SetFallbacks", OPERATOR),
            ("GetFallbacks", ANY),
            ("RegisterServer", OPERATOR),
            ("ListServers", OPERATOR),
            ("RefreshServer", OPERATOR),
            ("RemoveServer", OPERATOR),
            ("SearchTools", ANY),
            ("ExportTools", ANY),
            ("ApproveDefinition", OPERATOR),
            ("ImportOpenApi", OPERATOR),
            ("ImportGrpc", OPERATOR),
            ("GetRegistryHealth", OPERATOR),
            ("PutCredential", ADMIN),
            ("RotateCredential", ADMIN),
            ("RevokeCredential", ADMIN),
            ("ListCredentials", OPERATOR),
            ("ResolveCredential", SERVICE),
        ],
    ),
    ("selector.v1.SelectorService", &[("SelectTools", ANY), ("RecordOutcomes", SERVICE)]),
    (
        "executor.v1.ExecutorService",
        &[
            ("Execute", ANY),
            ("StartExecution", ANY),
            ("GetExecution", ANY),
            ("WatchExecution", ANY),
            ("CancelExecution", ANY),
            ("ListExecutions", ANY),
            ("BatchExecute", ANY),
            ("GetToolMetrics", ANY),
            ("ListToolMetrics", ANY),
            ("GetCacheStats", ANY),
            ("InvalidateCache", OPERATOR),
        ],
    ),
    (
        "permissions.v1.PermissionsService",
        &[
            ("Authorize", SERVICE),
            ("SettleReservation", SERVICE),
            ("BatchSettleReservations", SERVICE),
            ("AuthenticateApiKey", SERVICE),
            ("BatchAuthorize", ANY),
            ("WhoAmI", ANY),
            ("ListGrants", ANY),
            ("GetBudget", ANY),
            ("SetBudget", ADMIN),
            ("GrantPermission", ADMIN),
            ("RevokePermission", ADMIN),
            ("CreateAgent", ADMIN),
            ("IssueApiKey", ADMIN),
            ("RevokeApiKey", ADMIN),
        ],
    ),
    ("audit.v1.AuditService", &[("AppendEvents", SERVICE), ("QueryTrail", ANY)]),
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
    fn a_role_includes_those_before_it_and_no_agent_is_a_service() {
        let mut caller = Caller { role: Role::Operator, service: None, ..Caller::service("x") };
        assert!(ANY.admits(&caller) && OPERATOR.admits(&caller));
        assert!(!ADMIN.admits(&caller) && !Access::Service.admits(&caller));
        caller.role = Role::Admin;
        assert!(!Access::Service.admits(&caller));
        assert!(access_of("/toolcrib.audit.v1.AuditService/Nothing").is_none());
    }
}
