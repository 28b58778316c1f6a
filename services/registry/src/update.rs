//! Changes the settings of a tool. Never its definition, and never from a state that the caller did not see
//! where it said which one it saw.

use std::collections::{HashMap, HashSet};

use ::store::Database;
use types::Caller;

use crate::{
    Error, check_fallbacks,
    check_settings::{self, Found},
    definition::Definition,
    fit, get,
    mask::Mask,
    settings::{Fallback, Settings},
    store::{self, NewSettings, SettingsRow, ToolRow, Write},
    trail,
};

/// What is to become of the settings of a tool.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub settings: Settings,
    /// Which of them are meant.
    pub mask: Mask,
    /// What the caller saw; empty: it does not matter.
    pub etag: String,
    /// Where the settings stand in the request, before the names of wrong fields.
    pub prefix: &'static str,
}

/// Changes the settings and gives the newest version.
pub(crate) async fn update(
    database: &Database,
    caller: &Caller,
    name: &str,
    change: Change,
) -> Result<ToolRow, Error> {
    let found = change.examine(name).await?;
    let (pool, team) = (database.pool()?, caller.team.as_str());
    let mut write = Write::begin(pool).await?;
    let Some(current) = store::settings_find(&mut write, team, name).await? else {
        drop(write);
        return Err(get::not_found(database, team, name.to_owned()).await);
    };
    let definition = serde_json::from_str(&current.definition)?;
    if change.keep(&mut write, caller, &definition, &current, found).await? {
        write.commit().await?;
    } else {
        drop(write);
    }
    match store::tool_find(pool, team, name).await? {
        Some(tool) => Ok(tool),
        None => Err(get::not_found(database, team, name.to_owned()).await),
    }
}

impl Change {
    /// What is wrong with it by itself. Expressions are compiled: on a blocking thread, before anybody's lock.
    pub(crate) async fn examine(&self, name: &str) -> Result<Found, Error> {
        if !self.mask.has_fallbacks() || self.settings.fallbacks.is_empty() {
            return Ok(Found::default());
        }
        let (name, fallbacks) = (name.to_owned(), self.settings.fallbacks.clone());
        let check = move || {
            let mut found = Found::default();
            check_fallbacks::check(&name, &fallbacks, &mut found);
            found
        };
        Ok(tokio::task::spawn_blocking(check).await?)
    }

    /// Keeps the settings as they become, or tells everything that is wrong; `found` is what `examine` found.
    /// Gives whether anything changed.
    pub(crate) async fn keep(
        &self,
        write: &mut Write,
        caller: &Caller,
        definition: &Definition,
        current: &SettingsRow,
        mut found: Found,
    ) -> Result<bool, Error> {
        if !self.etag.is_empty() && self.etag != current.revision.to_string() {
            return Err(Error::EtagMismatch(current.name.clone()));
        }
        let before = current.settings();
        let mut settings = self.mask.apply(&before, &self.settings);
        check_settings::check(&settings, &mut found);
        fit::check(&settings, definition, &mut found)?;
        if self.mask.has_fallbacks() {
            check_among(write, &caller.team, &current.name, &settings.fallbacks, &mut found).await?;
        }
        if !found.0.is_empty() {
            return Err(Error::Invalid(found.below(self.prefix)));
        }
        settings.fallbacks.sort_by_key(|fallback| fallback.priority);
        if settings == before {
            return Ok(false);
        }
        let told = format!("its settings were changed: {}", trail::settings(&before, &settings));
        write.tell(trail::tool(caller, current.named(), told));
        let new = NewSettings { name: current.name.clone(), settings };
        store::settings_put(write, &caller.team, &[new]).await?;
        Ok(true)
    }
}

/// Within the write: two who make one half of a circle each must not both succeed.
async fn check_among(
    write: &mut Write,
    team: &str,
    name: &str,
    fallbacks: &[Fallback],
    found: &mut Found,
) -> Result<(), Error> {
    if fallbacks.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = fallbacks.iter().map(|fallback| fallback.tool.clone()).collect();
    let known: HashSet<String> =
        store::settings_list(write, team, &names).await?.into_iter().map(|row| row.name).collect();
    let others: HashMap<_, _> = store::fallback_list(write, team).await?.into_iter().collect();
    check_fallbacks::check_among(name, fallbacks, &known, &others, found);
    Ok(())
}
