//! Registers a tool, or a new version of one, with settings or those it has. The definition of a version never
//! changes.

use ::rpc::FieldViolation;
use ::store::Database;
use semver::Version;
use types::Caller;
use uuid::Uuid;

use crate::{
    Error,
    change::{self, Kind},
    check::{self, Origin},
    check_settings::{self, Found},
    definition::{Definition, Proposal},
    fit,
    store::{self, KnownTool, NewSettings, NewVersion, SettingsRow, ToolRow, Write},
    trail,
    update::Change,
};

/// Most changes that are told with a version that says too little.
const MAX_TOLD: usize = 3;
/// Version of a tool's first definition where none is given.
const FIRST: &str = "1.0.0";

/// What is to be done with a definition.
#[derive(Debug, PartialEq, Eq)]
enum Decision {
    /// It is registered already, under this id.
    Known(Uuid),
    /// It becomes this version.
    New(String),
}

/// What becomes of a tool's settings when it is registered.
#[derive(Debug)]
pub(crate) enum SettingsPlan {
    /// They become these.
    Set(Box<Change>),
    /// They stay; a version that they do not go with is refused.
    Keep,
    /// They stay, but for those that do not go with the new version: nobody is there to be told.
    Fit,
}

/// A tool that was registered.
#[derive(Debug)]
pub(crate) struct Registered {
    pub tool: ToolRow,
    /// Whether a version was made.
    pub created: bool,
    /// How it differs from the version before.
    pub changes: Vec<change::Change>,
}

/// Registers what a person proposes.
pub(crate) async fn register(
    database: &Database,
    caller: &Caller,
    proposal: Proposal,
    plan: SettingsPlan,
) -> Result<Registered, Error> {
    let found = examined(&proposal.name, &plan).await?;
    let definition = match checked(proposal).await {
        Ok(definition) => definition,
        Err(Error::Invalid(violations)) => return Err(with_values(violations, found, &plan)),
        Err(other) => return Err(other),
    };
    let (pool, team) = (database.pool()?, caller.team.as_str());
    let stands = store::tool_find(pool, team, &definition.name).await?;
    let compared = match stands {
        Some(stands) => Some(Compared::of(stands.definition, &definition).await?),
        None => None,
    };
    let (id, changes) = put(Write::begin(pool).await?, caller, definition, &plan, found, compared).await?;
    let tool = store::tool_find_by_id(pool, team, id).await?;
    let tool = tool.ok_or_else(|| Error::ToolNotFound { key: id.to_string(), nearest: vec![] })?;
    Ok(Registered { tool, created: changes.is_some(), changes: changes.unwrap_or_default() })
}

/// The checked definition. Compiling a large schema would hold up the runtime: done on a blocking thread.
pub(crate) async fn checked(proposal: Proposal) -> Result<Definition, Error> {
    let check = move || check::check(proposal, Origin::Person).map_err(|found| Error::Invalid(found.0));
    tokio::task::spawn_blocking(check).await?
}

async fn examined(name: &str, plan: &SettingsPlan) -> Result<Found, Error> {
    match plan {
        SettingsPlan::Set(change) => change.examine(name).await,
        SettingsPlan::Keep | SettingsPlan::Fit => Ok(Found::default()),
    }
}

/// What is wrong with a definition, and with the settings as far as they can be judged without it.
fn with_values(mut violations: Vec<FieldViolation>, mut found: Found, plan: &SettingsPlan) -> Error {
    if let SettingsPlan::Set(change) = plan {
        check_settings::check(&change.settings, &mut found);
        violations.extend(found.below(change.prefix));
    }
    Error::Invalid(violations)
}

/// Gives the version, and its changes where it is a new one.
async fn put(
    mut write: Write,
    caller: &Caller,
    mut definition: Definition,
    plan: &SettingsPlan,
    found: Found,
    compared: Option<Compared>,
) -> Result<(Uuid, Option<Vec<change::Change>>), Error> {
    let (team, digests) = (caller.team.as_str(), definition.digests()?);
    let newest = store::tool_known(&mut write, team, &definition.name).await?;
    refuse_kept(&mut write, team, newest.as_ref(), &definition.provider).await?;
    let same = store::version_content(&mut write, team, &definition.name, &definition.version).await?;
    let before = match newest {
        Some(newest) => Some(before(&mut write, team, newest, &definition, compared).await?),
        None => None,
    };
    let id = match decide(&definition, &digests.content, before.as_ref(), same)? {
        Decision::Known(id) => {
            if settle(&mut write, caller, &definition.name, plan, found, false).await? {
                write.commit().await?;
            }
            return Ok((id, None));
        }
        Decision::New(version) => {
            definition.version = version;
            let version = [NewVersion::new(&definition, digests)?];
            store::versions_insert(&mut write, team, &version).await?;
            store::tool_put(&mut write, team, None, &version).await?;
            let changes = before.as_ref().map_or(&[][..], |before| &before.changes);
            let told = format!("version {} was registered{}", definition.version, trail::difference(changes));
            write.tell(trail::tool(caller, version[0].named(), told));
            version[0].id()
        }
    };
    settle(&mut write, caller, &definition.name, plan, found, true).await?;
    write.commit().await?;
    Ok((id, Some(before.map(|before| before.changes).unwrap_or_default())))
}

/// How a definition differs from the one that stands.
struct Compared {
    /// Encoded.
    stands: String,
    changes: Vec<change::Change>,
}

impl Compared {
    /// Comparing large schemas would hold up the runtime: done on a blocking thread.
    async fn of(stands: String, definition: &Definition) -> Result<Self, Error> {
        let definition = definition.clone();
        let compare = move || {
            let changes = change::compare(&serde_json::from_str(&stands)?, &definition)?;
            Ok(Self { stands, changes })
        };
        tokio::task::spawn_blocking(compare).await?
    }
}

/// What stands before a new version.
#[derive(Debug)]
struct Before {
    newest: KnownTool,
    /// The greatest version that there is.
    highest: String,
    /// How the new definition differs from the newest.
    changes: Vec<change::Change>,
}

async fn before(
    write: &mut Write,
    team: &str,
    newest: KnownTool,
    definition: &Definition,
    compared: Option<Compared>,
) -> Result<Before, Error> {
    let names = std::slice::from_ref(&definition.name);
    let past = store::versions_past(write, team, names).await?;
    let stands = store::settings_find(write, team, &definition.name).await?;
    let changes = match (stands, compared) {
        (Some(stands), Some(compared)) if compared.stands == stands.definition => compared.changes,
        // It became another one meanwhile.
        (Some(stands), _) => Compared::of(stands.definition, definition).await?.changes,
        (None, _) => vec![],
    };
    let highest = highest(&newest.version, past.iter().map(|past| past.version.as_str()));
    Ok(Before { newest, highest, changes })
}

/// The greatest version of a tool: one that waits or was rejected may be greater than the newest.
pub(crate) fn highest<'a>(newest: &'a str, versions: impl Iterator<Item = &'a str>) -> String {
    versions
        .fold(newest, |highest, version| if is_greater(version, highest) { version } else { highest })
        .to_owned()
}

/// Brings the settings in line with the tool as it is now; gives whether they changed.
async fn settle(
    write: &mut Write,
    caller: &Caller,
    name: &str,
    plan: &SettingsPlan,
    found: Found,
    is_new: bool,
) -> Result<bool, Error> {
    let team = caller.team.as_str();
    let current = store::settings_find(write, team, name).await?;
    let Some(current) = current else { return Ok(false) };
    let definition: Definition = serde_json::from_str(&current.definition)?;
    match plan {
        SettingsPlan::Set(change) => change.keep(write, caller, &definition, &current, found).await,
        SettingsPlan::Keep if is_new => refuse_misfits(&current, &definition).map(|()| false),
        SettingsPlan::Fit if is_new => {
            let Some(new) = fitted(team, &current, &definition)? else { return Ok(false) };
            write.tell(trail::tool(caller, current.named(), dropped(&current, &new)));
            store::settings_put(write, team, &[new]).await?;
            Ok(true)
        }
        SettingsPlan::Keep | SettingsPlan::Fit => Ok(false),
    }
}

fn refuse_misfits(current: &SettingsRow, definition: &Definition) -> Result<(), Error> {
    let mut found = Found::default();
    fit::check(&current.settings(), definition, &mut found)?;
    if found.0.is_empty() {
        return Ok(());
    }
    let mut violations = found.below("settings.");
    for violation in &mut violations {
        violation.description +=
            "; the tool has this setting: change it first, or give settings with this version";
    }
    Err(Error::Invalid(violations))
}

/// The settings without those that do not go with a definition; `None` when all do.
pub(crate) fn fitted(
    team: &str,
    current: &SettingsRow,
    definition: &Definition,
) -> Result<Option<NewSettings>, Error> {
    let mut settings = current.settings();
    let dropped = fit::drop_misfits(&mut settings, definition)?;
    for misfit in &dropped {
        let (field, wrong) = (misfit.field, &misfit.description);
        tracing::warn!(team, tool = current.name, setting = field, "a setting is dropped, for it {wrong}");
    }
    Ok((!dropped.is_empty()).then(|| NewSettings { name: current.name.clone(), settings }))
}

/// What the trail is told of settings that `fitted` dropped.
pub(crate) fn dropped(current: &SettingsRow, fitted: &NewSettings) -> String {
    let told = trail::settings(&current.settings(), &fitted.settings);
    format!("settings that do not go with its new definition were dropped: {told}")
}

/// A tool that a registered server provides belongs to its discovery.
async fn refuse_kept(
    write: &mut Write,
    team: &str,
    newest: Option<&KnownTool>,
    provider: &str,
) -> Result<(), Error> {
    let Some(KnownTool { name, server_name: Some(server), .. }) = newest else { return Ok(()) };
    if store::server_exists(write, team, server).await? {
        let provider = provider.to_owned();
        return Err(Error::Kept { name: name.clone(), provider, server: server.clone() });
    }
    Ok(())
}

/// `same` is id and content of the version that the definition names, if there is one.
fn decide(
    definition: &Definition,
    content: &str,
    before: Option<&Before>,
    same: Option<(Uuid, String)>,
) -> Result<Decision, Error> {
    let asked = definition.version.as_str();
    match (asked, same, before) {
        (_, Some((id, known)), _) if known == content => Ok(Decision::Known(id)),
        (_, Some(_), _) => {
            Err(Error::VersionExists { name: definition.name.clone(), version: asked.to_owned() })
        }
        ("", None, None) => Ok(Decision::New(FIRST.to_owned())),
        (asked, None, None) => Ok(Decision::New(asked.to_owned())),
        ("", None, Some(before)) if before.newest.content_digest == content => {
            Ok(Decision::Known(before.newest.id))
        }
        ("", None, Some(before)) => Ok(Decision::New(before.next())),
        (asked, None, Some(before)) => before.fits(asked).map(|()| Decision::New(asked.to_owned())),
    }
}

impl Before {
    fn kind(&self) -> Kind {
        change::greatest(&self.changes).unwrap_or(Kind::Patch)
    }

    fn next(&self) -> String {
        change::next_version(&self.newest.version, &self.highest, self.kind())
    }

    /// Whether a version is greater than all there are, and says enough of what changed.
    fn fits(&self, asked: &str) -> Result<(), Error> {
        let Self { newest, highest, .. } = self;
        if !is_greater(asked, highest) {
            let told = format!("is {asked}; it must be greater than {highest}, the newest, or empty");
            return Err(Error::invalid("definition.version", told));
        }
        if change::says_enough(asked, &newest.version, self.kind()) {
            return Ok(());
        }
        let kind = self.kind();
        let greatest = self.changes.iter().filter(|change| change.kind == kind);
        let told: Vec<String> = greatest
            .clone()
            .take(MAX_TOLD)
            .map(|change| format!("{} ({})", change.description, change.path))
            .collect();
        let more = greatest.count().saturating_sub(MAX_TOLD);
        let more = if more > 0 { format!(", and {more} more") } else { String::new() };
        let what = if kind == Kind::Breaking { "breaks callers" } else { "adds to the tool" };
        Err(Error::invalid(
            "definition.version",
            format!(
                "is {asked}, and this {what}: {}{more}; give {} or a greater one, or none",
                told.join("; "),
                self.next()
            ),
        ))
    }
}

fn is_greater(asked: &str, newest: &str) -> bool {
    match (Version::parse(asked), Version::parse(newest)) {
        (Ok(asked), Ok(newest)) => asked > newest,
        _ => false,
    }
}

/// The version of a tool that a server provides for the first time.
pub(crate) fn first() -> String {
    FIRST.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definition::tests::definition;

    fn before(version: &str, content: &str, kind: Kind) -> Before {
        let change = change::Change {
            kind,
            path: "/input_schema".into(),
            description: "city is required now".into(),
            before: String::new(),
            after: String::new(),
        };
        Before {
            newest: KnownTool {
                name: "weather".into(),
                id: Uuid::from_u128(1),
                version: version.into(),
                digest: String::new(),
                content_digest: content.into(),
                server_name: None,
                provider: "toolcrib".into(),
                withdrawn: false,
                approved: true,
                pending_id: None,
            },
            highest: version.into(),
            changes: vec![change],
        }
    }

    fn ask(version: &str, before: Option<&Before>, same: Option<&str>) -> Result<Decision, Error> {
        let definition = Definition { version: version.into(), ..definition() };
        decide(&definition, "new", before, same.map(|content| (Uuid::from_u128(2), content.to_owned())))
    }

    #[test]
    fn versions_only_rise() {
        let old = before("1.4.2", "old", Kind::Patch);
        let new = |version: &str| Decision::New(version.into());
        assert_eq!(ask("", None, None).unwrap(), new("1.0.0"));
        assert_eq!(ask("0.3.0", None, None).unwrap(), new("0.3.0"));
        assert_eq!(ask("1.4.3", Some(&old), None).unwrap(), new("1.4.3"));
        assert!(matches!(ask("1.4.1", Some(&old), None), Err(Error::Invalid(_))));
        assert!(matches!(ask("1.4.2-rc.1", Some(&old), None), Err(Error::Invalid(_))));
        let waits = Before { highest: "2.0.0".into(), ..before("1.4.2", "old", Kind::Patch) };
        assert!(matches!(ask("1.4.3", Some(&waits), None), Err(Error::Invalid(_))));
        assert_eq!(ask("", Some(&waits), None).unwrap(), new("2.0.1"));
    }

    #[test]
    fn the_kind_of_change_decides_the_version() {
        let ask = |asked: &str, kind| ask(asked, Some(&before("1.4.2", "old", kind)), None);
        for (kind, next, least) in [
            (Kind::Patch, "1.4.3", "1.4.3"),
            (Kind::Addition, "1.5.0", "1.5.0"),
            (Kind::Breaking, "2.0.0", "2.0.0-rc.1"),
        ] {
            assert_eq!(ask("", kind).unwrap(), Decision::New(next.into()));
            assert_eq!(ask(least, kind).unwrap(), Decision::New(least.into()));
            assert!(ask("3.0.0", kind).is_ok());
        }
        let told = ask("1.4.3", Kind::Addition).unwrap_err().to_string();
        assert!(told.contains("adds to the tool") && told.contains("1.5.0"), "{told}");
        let told = ask("1.9.0", Kind::Breaking).unwrap_err().to_string();
        assert!(told.contains("city is required now (/input_schema); give 2.0.0 or"), "{told}");
    }

    #[test]
    fn the_same_again_is_known_and_another_definition_of_a_version_refused() {
        let known = before("1.4.2", "new", Kind::Patch);
        assert_eq!(ask("", Some(&known), None).unwrap(), Decision::Known(known.newest.id));
        assert_eq!(ask("1.4.2", Some(&known), Some("new")).unwrap(), Decision::Known(Uuid::from_u128(2)));
        assert!(matches!(ask("1.4.2", Some(&known), Some("old")), Err(Error::VersionExists { .. })));
        assert!(matches!(ask("1.0.0", Some(&known), Some("old")), Err(Error::VersionExists { .. })));
    }
}
