//! Registers a tool, or a new version of one, with settings or those it has. The definition of a version never
//! changes.

use ::rpc::FieldViolation;
use ::store::Database;
use semver::{Prerelease, Version};
use uuid::Uuid;

use crate::{
    Error,
    check::{self, Origin},
    check_settings::{self, Found},
    definition::{Definition, Proposal},
    fit,
    store::{self, KnownTool, NewSettings, NewVersion, SettingsRow, ToolRow, Write},
    update::Change,
};

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

/// Registers what a person proposes; gives the tool and whether a version was made.
pub(crate) async fn register(
    database: &Database,
    team: &str,
    proposal: Proposal,
    plan: SettingsPlan,
) -> Result<(ToolRow, bool), Error> {
    let found = examined(&proposal.name, &plan).await?;
    let definition = match checked(proposal).await {
        Ok(definition) => definition,
        Err(Error::Invalid(violations)) => return Err(with_values(violations, found, &plan)),
        Err(other) => return Err(other),
    };
    let pool = database.pool()?;
    let (id, created) = put(Write::begin(pool).await?, team, definition, &plan, found).await?;
    let tool = store::tool_find_by_id(pool, team, id).await?;
    let tool = tool.ok_or_else(|| Error::ToolNotFound { key: id.to_string(), nearest: vec![] })?;
    Ok((tool, created))
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

async fn put(
    mut write: Write,
    team: &str,
    mut definition: Definition,
    plan: &SettingsPlan,
    found: Found,
) -> Result<(Uuid, bool), Error> {
    let digests = definition.digests()?;
    let newest = store::tool_known(&mut write, team, &definition.name).await?;
    refuse_kept(&mut write, team, newest.as_ref()).await?;
    let same = store::version_content(&mut write, team, &definition.name, &definition.version).await?;
    let (id, created) = match decide(&definition, &digests.content, newest.as_ref(), same)? {
        Decision::Known(id) => (id, false),
        Decision::New(version) => {
            definition.version = version;
            let version = [NewVersion::new(&definition, digests)?];
            store::versions_insert(&mut write, team, &version).await?;
            store::tool_put(&mut write, team, None, &version).await?;
            (version[0].id(), true)
        }
    };
    let set = settle(&mut write, team, &definition.name, plan, found, created).await?;
    if created || set {
        write.commit().await?;
    }
    Ok((id, created))
}

/// Brings the settings in line with the tool as it is now; gives whether they changed.
async fn settle(
    write: &mut Write,
    team: &str,
    name: &str,
    plan: &SettingsPlan,
    found: Found,
    is_new: bool,
) -> Result<bool, Error> {
    let current = store::settings_find(write, team, name).await?;
    let Some(current) = current else { return Ok(false) };
    let definition: Definition = serde_json::from_str(&current.definition)?;
    match plan {
        SettingsPlan::Set(change) => change.keep(write, team, &definition, &current, found).await,
        SettingsPlan::Keep if is_new => refuse_misfits(&current, &definition).map(|()| false),
        SettingsPlan::Fit if is_new => {
            let Some(new) = fitted(team, &current, &definition)? else { return Ok(false) };
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

/// A tool that a registered server provides belongs to its discovery.
async fn refuse_kept(write: &mut Write, team: &str, newest: Option<&KnownTool>) -> Result<(), Error> {
    let Some(KnownTool { name, server_name: Some(server), .. }) = newest else { return Ok(()) };
    if store::server_exists(write, team, server).await? {
        return Err(Error::Kept { name: name.clone(), server: server.clone() });
    }
    Ok(())
}

/// `same` is id and content of the version that the definition names, if there is one.
fn decide(
    definition: &Definition,
    content: &str,
    newest: Option<&KnownTool>,
    same: Option<(Uuid, String)>,
) -> Result<Decision, Error> {
    let asked = definition.version.as_str();
    match (asked, same, newest) {
        (_, Some((id, known)), _) if known == content => Ok(Decision::Known(id)),
        (_, Some(_), _) => {
            Err(Error::VersionExists { name: definition.name.clone(), version: asked.to_owned() })
        }
        ("", None, None) => Ok(Decision::New(FIRST.to_owned())),
        (asked, None, None) => Ok(Decision::New(asked.to_owned())),
        ("", None, Some(newest)) if newest.content_digest == content => Ok(Decision::Known(newest.id)),
        ("", None, Some(newest)) => Ok(Decision::New(next_minor(&newest.version))),
        (asked, None, Some(newest)) if is_greater(asked, &newest.version) => {
            Ok(Decision::New(asked.to_owned()))
        }
        (asked, None, Some(newest)) => Err(Error::invalid(
            "definition.version",
            format!("is {asked}; it must be greater than {}, the newest, or empty", newest.version),
        )),
    }
}

fn is_greater(asked: &str, newest: &str) -> bool {
    match (Version::parse(asked), Version::parse(newest)) {
        (Ok(asked), Ok(newest)) => asked > newest,
        _ => false,
    }
}

fn next_minor(newest: &str) -> String {
    bump(newest, |version| {
        version.minor += 1;
        version.patch = 0;
    })
}

/// The version after the newest of a tool that a server provides.
pub(crate) fn next_patch(newest: &str) -> String {
    bump(newest, |version| version.patch += 1)
}

/// The version of a tool that a server provides for the first time.
pub(crate) fn first() -> String {
    FIRST.to_owned()
}

/// Versions are parsed before they are stored, so that the newest always can be.
fn bump(newest: &str, raise: impl Fn(&mut Version)) -> String {
    let mut version = Version::parse(newest).unwrap_or(Version::new(1, 0, 0));
    version.pre = Prerelease::EMPTY;
    raise(&mut version);
    version.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definition::tests::definition;

    fn newest(version: &str, content: &str) -> KnownTool {
        KnownTool {
            name: "weather".into(),
            id: Uuid::from_u128(1),
            version: version.into(),
            content_digest: content.into(),
            server_name: None,
            withdrawn: false,
        }
    }

    fn ask(version: &str, newest: Option<&KnownTool>, same: Option<&str>) -> Result<Decision, Error> {
        let definition = Definition { version: version.into(), ..definition() };
        decide(&definition, "new", newest, same.map(|content| (Uuid::from_u128(2), content.to_owned())))
    }

    #[test]
    fn versions_only_rise() {
        let old = newest("1.4.2", "old");
        assert_eq!(ask("", None, None).unwrap(), Decision::New("1.0.0".into()));
        assert_eq!(ask("0.3.0", None, None).unwrap(), Decision::New("0.3.0".into()));
        assert_eq!(ask("", Some(&old), None).unwrap(), Decision::New("1.5.0".into()));
        assert_eq!(ask("1.4.3", Some(&old), None).unwrap(), Decision::New("1.4.3".into()));
        assert!(matches!(ask("1.4.1", Some(&old), None), Err(Error::Invalid(_))));
        assert!(matches!(ask("1.4.2-rc.1", Some(&old), None), Err(Error::Invalid(_))));
        assert_eq!(ask("", Some(&newest("2.0.0-rc.1", "old")), None).unwrap(), Decision::New("2.1.0".into()));
        assert_eq!(next_patch("1.4.2"), "1.4.3");
    }

    #[test]
    fn the_same_again_is_known_and_another_definition_of_a_version_refused() {
        let known = newest("1.4.2", "new");
        assert_eq!(ask("", Some(&known), None).unwrap(), Decision::Known(known.id));
        assert_eq!(ask("1.4.2", Some(&known), Some("new")).unwrap(), Decision::Known(Uuid::from_u128(2)));
        assert!(matches!(ask("1.4.2", Some(&known), Some("old")), Err(Error::VersionExists { .. })));
        assert!(matches!(ask("1.0.0", Some(&known), Some("old")), Err(Error::VersionExists { .. })));
    }
}
