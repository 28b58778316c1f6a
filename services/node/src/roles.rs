//! The parts that a process can be, and their names in settings and on the command line.

use std::{collections::BTreeSet, str::FromStr};

use anyhow::bail;
use serde::{Deserialize, Deserializer};

/// One of the parts that a process can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// The address that the outside calls.
    Edge,
    /// The catalog.
    Registry,
    /// The ranking.
    Selector,
    /// The calls.
    Executor,
    /// The decisions.
    Permissions,
    /// The trail.
    Audit,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 6] =
        [Self::Edge, Self::Registry, Self::Selector, Self::Executor, Self::Permissions, Self::Audit];

    /// Its name in settings and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Edge => "edge",
            Self::Registry => "registry",
            Self::Selector => "selector",
            Self::Executor => "executor",
            Self::Permissions => "permissions",
            Self::Audit => "audit",
        }
    }
}

/// The roles of one process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roles(pub BTreeSet<Role>);

impl Roles {
    /// Every role in one process.
    pub fn all() -> Self {
        Self(Role::ALL.into())
    }

    /// Whether the process is this.
    pub fn has(&self, role: Role) -> bool {
        self.0.contains(&role)
    }

    /// Whether the process is everything, so that only the edge needs a port.
    pub fn is_all(&self) -> bool {
        self.0.len() == Role::ALL.len()
    }

    /// Reads names, `all` among them.
    pub fn parse<'a>(names: impl IntoIterator<Item = &'a str>) -> anyhow::Result<Self> {
        let mut roles = BTreeSet::new();
        for name in names.into_iter().map(str::trim).filter(|name| !name.is_empty()) {
            match Role::ALL.into_iter().find(|role| role.as_str() == name) {
                Some(role) => drop(roles.insert(role)),
                None if name == "all" => roles.extend(Role::ALL),
                None => bail!(
                    "role {name:?} is not one of all, edge, registry, selector, executor, permissions, audit"
                ),
            }
        }
        if roles.is_empty() {
            bail!("no role is given");
        }
        Ok(Self(roles))
    }
}

impl FromStr for Roles {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        Self::parse(text.split(','))
    }
}

/// Names, or one text of names joined by commas, as an environment variable gives them.
#[derive(Deserialize)]
#[serde(untagged)]
pub(crate) enum Names {
    List(Vec<String>),
    Text(String),
}

impl<'de> Deserialize<'de> for Roles {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let roles = match Names::deserialize(deserializer)? {
            Names::List(names) => Self::parse(names.iter().map(String::as_str)),
            Names::Text(text) => text.parse(),
        };
        roles.map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_names_and_all_is_every_one() {
        assert!("all".parse::<Roles>().unwrap().is_all());
        assert!("edge,cook".parse::<Roles>().is_err());
        assert!("".parse::<Roles>().is_err());
    }
}
