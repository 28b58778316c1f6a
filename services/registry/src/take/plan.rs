//! What is to be written of a server's tools, and told, gathered tool by tool. Writes nothing itself.

use uuid::Uuid;

use crate::{
    Error, change,
    definition::{Definition, Digests},
    register,
    store::{KnownTool, NewSettings, NewVersion, ServerRow, SettingsRow},
    trail::{self, Event, Named},
    trust::Verdict,
};

/// What is to be written.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// To add, and to make the newest of their tools.
    pub newest: Vec<NewVersion>,
    /// To make the newest, though they are there already: approved by the policy.
    pub approved: Vec<NewVersion>,
    /// To add, and to wait for approval.
    pub held: Vec<NewVersion>,
    /// Which version of which tool waits from now on.
    pub waiting: Vec<(String, Uuid)>,
    /// Newest versions that wait for approval.
    pub quarantined: Vec<Uuid>,
    /// Tools of which nothing waits any more.
    pub cleared: Vec<String>,
    /// Of tools that changed so that some of theirs had to be dropped.
    pub settings: Vec<NewSettings>,
    /// Withdrawn before, and offered again.
    pub restored: Vec<String>,
    /// Every tool that the server offers.
    pub offered: Vec<String>,
    /// Whether a tool is gone.
    pub has_gone: bool,
    /// What the trail is told of all that, but for the tools that are gone.
    pub events: Vec<Event>,
}

impl Plan {
    pub(super) fn is_empty(&self) -> bool {
        self.newest.is_empty()
            && self.approved.is_empty()
            && self.waiting.is_empty()
            && self.cleared.is_empty()
            && self.restored.is_empty()
            && !self.has_gone
    }

    /// Has the trail told of a tool. Nobody asked: its server did it.
    pub(super) fn tell(&mut self, server: &ServerRow, version: Named<'_>, message: String) {
        self.events.push(trail::tool(&trail::own(&server.team_id), version, message));
    }

    /// Adds a version as the newest of its tool, which differs so from the one before.
    pub(super) fn add(
        &mut self,
        server: &ServerRow,
        definition: &Definition,
        (digests, serves): (Digests, bool),
        difference: &str,
    ) -> Result<(), Error> {
        let mut version = NewVersion::new(definition, digests)?;
        let becomes = if serves { "serves" } else { "waits for approval" };
        let told =
            format!("version {} of MCP server {} {becomes}{difference}", definition.version, server.name);
        self.tell(server, version.named(), told);
        if !serves {
            version = version.unapproved();
            self.quarantined.push(version.id());
        }
        self.newest.push(version);
        Ok(())
    }

    /// Drops the settings of a tool that do not go with its new definition.
    fn fit(
        &mut self,
        server: &ServerRow,
        settings: Option<&SettingsRow>,
        definition: &Definition,
    ) -> Result<(), Error> {
        let Some(current) = settings else { return Ok(()) };
        if let Some(fitted) = register::fitted(&server.team_id, current, definition)? {
            self.tell(server, current.named(), register::dropped(current, &fitted));
            self.settings.push(fitted);
        }
        Ok(())
    }

    /// Does what was decided of a tool that is there.
    pub(super) fn follow(
        &mut self,
        server: &ServerRow,
        tool: &KnownTool,
        settings: Option<&SettingsRow>,
        verdict: Verdict,
        mut offered: Definition,
        digests: Digests,
    ) -> Result<(), Error> {
        let fit = |plan: &mut Self, definition: &Definition| plan.fit(server, settings, definition);
        match verdict {
            Verdict::Refused { adopted: Some(adopted), .. } => {
                fit(self, &adopted)?;
                let digests = adopted.digests()?;
                self.add(server, &adopted, (digests, true), &difference(settings, &adopted)?)?;
            }
            Verdict::Stands | Verdict::Refused { clears: true, .. } if tool.pending_id.is_some() => {
                self.cleared.push(tool.name.clone());
                let told =
                    format!("nothing waits for approval: MCP server {} offers it no more", server.name);
                self.tell(server, tool.named(), told);
            }
            Verdict::Stands | Verdict::Waits | Verdict::Refused { .. } => {}
            Verdict::Approved => {
                offered.version.clone_from(&tool.version);
                fit(self, &offered)?;
                let version = NewVersion::existing(tool.id, &offered, digests)?;
                let told = format!("version {} was approved by the trust policy", offered.version);
                self.tell(server, version.named(), told);
                self.approved.push(version);
            }
            Verdict::Serves(definition) => {
                fit(self, &definition)?;
                self.add(server, &definition, (digests, true), &difference(settings, &definition)?)?;
            }
            Verdict::Replaces(definition) => {
                self.add(server, &definition, (digests, false), &difference(settings, &definition)?)?;
            }
            Verdict::Held { adopted, changed, again } => {
                let told = difference(settings, &changed)?;
                let told = format!(
                    "version {} of MCP server {} waits for approval{told}",
                    changed.version, server.name
                );
                let version =
                    Named { name: &changed.name, version: &changed.version, digest: &digests.published };
                self.tell(server, version, told);
                if let Some(adopted) = adopted {
                    fit(self, &adopted)?;
                    let digests = adopted.digests()?;
                    self.add(server, &adopted, (digests, true), &difference(settings, &adopted)?)?;
                }
                let id = if let Some(id) = again {
                    id
                } else {
                    let version = NewVersion::new(&changed, digests)?;
                    let id = version.id();
                    self.held.push(version);
                    id
                };
                self.waiting.push((tool.name.clone(), id));
            }
        }
        Ok(())
    }
}

/// How a definition differs from the one that stands.
fn difference(stands: Option<&SettingsRow>, definition: &Definition) -> Result<String, Error> {
    let Some(stands) = stands else { return Ok(String::new()) };
    let changes = change::compare(&serde_json::from_str(&stands.definition)?, definition)?;
    Ok(trail::difference(&changes))
}
