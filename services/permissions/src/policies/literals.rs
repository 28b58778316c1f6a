//! What a team's policy names that Cedar cannot look up: agents, tools and paths stand in it as texts, and one that can
//! never be met would leave a forbid without effect. Pure.

use cedar_policy::{EntityUid, Policy};

use super::{
    arguments::MAX_STEPS,
    complaint::{Complaint, at},
};
use crate::{condition::canonical, names};

/// What can never be met of what a policy of this team names.
pub(crate) fn check(policy: &Policy, team: &str, text: &str) -> Vec<Complaint> {
    let wrong = policy.entity_literals().into_iter().filter_map(|uid| {
        let help = wrong(&uid, team)?;
        let written = uid.to_string();
        let place = text.find(&written).or_else(|| text.find(&format!("{}::", uid.type_name()))).unwrap_or(0);
        Some(at(text, place, format!("nothing is ever {written}"), help))
    });
    let mut wrong: Vec<_> = wrong.collect();
    wrong.sort_by_key(|complaint| (complaint.line, complaint.column));
    wrong
}

/// What to write instead, where an entity is wrong.
fn wrong(uid: &EntityUid, team: &str) -> Option<String> {
    let id: &str = uid.id().unescaped();
    match uid.type_name().to_string().as_str() {
        "Agent" => {
            let agent = id.strip_prefix(&format!("{team}/"));
            let bare = id.rsplit('/').next().unwrap_or(id);
            agent.is_none_or(|agent| names::name("agent", agent).is_err()).then(|| {
                format!("agents are named with their team: Agent::\"{team}/{bare}\", or principal.name == \"{bare}\"")
            })
        }
        "Tool" => names::tool("tool", id).is_err().then(|| {
            "tools are named by their whole name, of a-z, 0-9, '_', '-' and '.'; for many, ask \
             resource.groups.contains(\"mail.*\")"
                .to_owned()
        }),
        "Path" => match canonical(id).map(|steps| format!("/{}", steps.join("/"))) {
            Some(path) if path.matches('/').count() > MAX_STEPS => Some(format!(
                "what lies deeper than {MAX_STEPS} folders is not told apart; name a folder above it"
            )),
            Some(path) if path == id => None,
            Some(path) => Some(format!("paths begin with one '/' and end with none: Path::\"{path}\"")),
            None => Some("it leads out of its root, or can be read in several ways".to_owned()),
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(literal: &str) -> Vec<String> {
        let text = format!("forbid (principal, action, resource)\nwhen {{ principal == {literal} }};");
        let policy: Policy = text.parse().unwrap();
        check(&policy, "t", &text).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_can_never_be_met_is_told_with_what_to_write() {
        for right in
            [r#"Agent::"t/scout""#, r#"Tool::"mail.send""#, r#"Path::"/""#, r#"Path::"/reports/2026""#]
        {
            assert_eq!(told(right), Vec::<String>::new(), "{right}");
        }
        for (wrong, expected) in [
            (r#"Agent::"scout""#, r#"Agent::"t/scout""#),
            (r#"Agent::"other/scout""#, r#"Agent::"t/scout""#),
            (r#"Agent::"t/""#, "agents are named"),
            (r#"Tool::"mail.*""#, "resource.groups"),
            (r#"Path::"/reports/""#, r#"Path::"/reports""#),
            (r#"Path::"reports""#, r#"Path::"/reports""#),
            (r#"Path::"/a/../b""#, r#"Path::"/b""#),
            (r#"Path::"/../b""#, "out of its root"),
        ] {
            let told = told(wrong).join("\n");
            assert!(told.starts_with("line 2, column 21: nothing is ever"), "{told}");
            assert!(told.contains(expected), "{wrong}: {told}");
        }
    }
}
