//! The ports of a process, taken before anything else: one that is taken already stops the start.

use std::collections::BTreeMap;

use rpc::Bound;

use crate::{
    config::{Role, Roles, Settings},
    secured::Secured,
};

/// A port for every role that needs one: all in one process, only the edge does.
pub(crate) async fn bind(
    settings: &Settings,
    roles: &Roles,
    secured: &Secured,
) -> anyhow::Result<BTreeMap<Role, Bound>> {
    let mut bound = BTreeMap::new();
    for role in &roles.0 {
        if roles.is_all() && *role != Role::Edge {
            continue;
        }
        let address = match role {
            Role::Edge => settings.edge.listen,
            Role::Registry => settings.registry.listen,
            Role::Selector => settings.selector.listen,
            Role::Executor => settings.executor.listen,
            Role::Permissions => settings.permissions.listen,
            Role::Audit => settings.audit.listen,
        };
        let tls = if *role == Role::Edge { &secured.edge } else { &secured.processes };
        bound.insert(*role, rpc::bind(address).await?.secured(tls.clone()));
    }
    Ok(bound)
}
