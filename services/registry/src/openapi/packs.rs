//! Tool packs that ship with toolcrib: connectors to third parties, written as `OpenAPI` documents, with schemes,
//! pages and rates. They hold no secret and come into a team's catalog only when somebody imports them.

use crate::Error;

/// Every pack, by name.
const PACKS: [(&str, &str); 3] = [
    ("github", include_str!("../../packs/github.yaml")),
    ("gitlab", include_str!("../../packs/gitlab.yaml")),
    ("slack", include_str!("../../packs/slack.yaml")),
];

/// The document of a pack.
pub(super) fn find(name: &str) -> Result<&'static str, Error> {
    let found = PACKS.iter().find(|(known, _)| *known == name).map(|(_, text)| *text);
    found.ok_or_else(|| {
        let known = PACKS.map(|(name, _)| name).join(", ");
        let shown: String = name.chars().take(100).collect();
        Error::invalid("pack", format!("{shown:?} is not a tool pack; there are: {known}"))
    })
}

/// Names of the packs.
#[cfg(test)]
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    PACKS.iter().map(|(name, _)| *name)
}
