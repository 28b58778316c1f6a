//! Grants, from the wire and to it.

use proto::{
    permissions::v1::{self as wire, GrantPermissionRequest, ListGrantsRequest, grant},
    types::v1::Sensitivity,
};
use types::Role;

use super::{time, timestamp};
use crate::{
    Error, condition,
    grant_permission::{Grantee, NewGrant},
    store::{GrantFilter, ListedGrant},
};

pub(super) fn new_grant(request: GrantPermissionRequest) -> Result<NewGrant, Error> {
    let asked = request.grant.unwrap_or_default();
    let max_sensitivity = Option::<types::Sensitivity>::from(asked.max_sensitivity());
    let approver_role = Option::<Role>::from(asked.approver_role());
    let expire_time = asked.expire_time.map(|at| time("grant.expire_time", at)).transpose()?;
    Ok(NewGrant {
        grantee: asked.grantee.map(|grantee| match grantee {
            grant::Grantee::AgentId(agent) => Grantee::Agent(agent),
            grant::Grantee::Specialization(specialization) => Grantee::Specialization(specialization),
        }),
        tool_name: asked.tool_name,
        max_per_hour: asked.max_per_hour,
        max_per_day: asked.max_per_day,
        max_total: asked.max_total,
        read_only: asked.read_only,
        max_sensitivity,
        expire_time,
        hours: asked.hours,
        conditions: asked.conditions,
        approver_role,
        note: asked.note,
    })
}

pub(super) fn grant_filter(request: &ListGrantsRequest) -> GrantFilter {
    let text = |value: &str| (!value.is_empty()).then(|| value.to_owned());
    GrantFilter {
        agent_id: text(&request.agent_id),
        specialization: text(&request.specialization),
        tool_name: text(&request.tool_name),
        include_revoked: request.include_revoked,
        ..GrantFilter::default()
    }
}

pub(super) fn grant(listed: ListedGrant) -> wire::Grant {
    let row = listed.grant;
    let level = row.max_sensitivity.and_then(|word| word.parse::<types::Sensitivity>().ok());
    let specialization = row.specialization.map(grant::Grantee::Specialization);
    wire::Grant {
        id: row.grant_id.to_string(),
        grantee: row.agent_id.map(grant::Grantee::AgentId).or(specialization),
        tool_name: row.tool_name,
        max_per_hour: row.max_per_hour,
        read_only: row.read_only,
        max_sensitivity: level.map(Sensitivity::from).unwrap_or_default().into(),
        expire_time: row.expire_time.map(timestamp),
        create_time: Some(timestamp(row.create_time)),
        created_by: row.created_by,
        revoke_time: row.revoke_time.map(timestamp),
        used_this_hour: listed.used.hour,
        max_per_day: row.max_per_day,
        max_total: row.max_total,
        hours: row.hours.map(|hours| hours.to_wire()),
        conditions: condition::to_wire(&row.conditions),
        approver_role: row.approver_role.map(wire::Role::from).unwrap_or_default().into(),
        note: row.note,
        used_today: listed.used.day,
        used_total: listed.used.total,
    }
}
