//! The contracts' enums as words: `CATEGORY_WEB_SEARCH` is `web_search` to people, in both directions.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use proto::{
    audit::v1::{Action, Result as AuditResult},
    executor::v1::{AttemptKind, ExecutionStatus, Reached, Source, ToolErrorCode},
    permissions::v1::{AccessRequestState, Role, Scope},
    registry::v1::{
        ChangeKind, CredentialKind, CredentialState, Degradation, FallbackCondition, ImportResult,
        ServerState, ToolStatus,
    },
    selector::v1::{Mode, Trend, policy, suggestion},
    types::v1::{Category, Effect, Sensitivity},
};

use super::output::Tone;

/// An enum of the contracts.
pub trait Word: TryFrom<i32> + Copy + Send + Sync + 'static {
    /// What every name of it begins with.
    const PREFIX: &'static str;

    /// The contract's name.
    fn name(self) -> &'static str;
}

macro_rules! words {
    ($($type:ty, $prefix:literal;)+) => {
        $(impl Word for $type {
            const PREFIX: &'static str = $prefix;

            fn name(self) -> &'static str {
                self.as_str_name()
            }
        })+
    };
}

words! {
    AccessRequestState, "ACCESS_REQUEST_STATE_";
    Action, "ACTION_";
    AttemptKind, "ATTEMPT_KIND_";
    AuditResult, "RESULT_";
    Category, "CATEGORY_";
    ChangeKind, "CHANGE_KIND_";
    CredentialKind, "CREDENTIAL_KIND_";
    CredentialState, "CREDENTIAL_STATE_";
    Degradation, "DEGRADATION_";
    Effect, "EFFECT_";
    ExecutionStatus, "EXECUTION_STATUS_";
    FallbackCondition, "FALLBACK_CONDITION_";
    Mode, "MODE_";
    ImportResult, "IMPORT_RESULT_";
    Reached, "REACHED_";
    Role, "ROLE_";
    Scope, "SCOPE_";
    Sensitivity, "SENSITIVITY_";
    ServerState, "SERVER_STATE_";
    Source, "SOURCE_";
    ToolErrorCode, "TOOL_ERROR_CODE_";
    ToolStatus, "TOOL_STATUS_";
    Trend, "TREND_";
    policy::State, "STATE_";
    suggestion::Kind, "KIND_";
}

fn all<E: Word>() -> impl Iterator<Item = E> {
    (1..).map_while(|number| E::try_from(number).ok())
}

fn lower<E: Word>(word: E) -> String {
    word.name().trim_start_matches(E::PREFIX).to_ascii_lowercase()
}

/// The word of a number on the wire: empty when it is not said, the number itself when it is newer than we.
pub fn word<E: Word>(number: i32) -> String {
    match E::try_from(number) {
        Ok(_) if number == 0 => String::new(),
        Ok(word) => lower(word),
        Err(_) => number.to_string(),
    }
}

/// The contract's name of a word; `None` when it is neither a word nor such a name.
pub fn contract_name<E: Word>(text: &str) -> Option<&'static str> {
    all::<E>().find(|&word| word.name() == text || lower(word) == text.to_ascii_lowercase()).map(E::name)
}

/// Takes a word on the command line.
pub fn parser<E: Word>() -> impl TypedValueParser<Value = E> {
    PossibleValuesParser::new(all::<E>().map(lower)).try_map(|text| {
        all::<E>().find(|&word| lower(word) == text).ok_or_else(|| format!("{text:?} is not known"))
    })
}

/// Whether a tool's status is well.
pub fn tool_tone(status: i32) -> Tone {
    match ToolStatus::try_from(status) {
        Ok(ToolStatus::Active) => Tone::Good,
        Ok(ToolStatus::Deprecated | ToolStatus::Quarantined) => Tone::Warn,
        _ => Tone::Dim,
    }
}

/// Whether an execution's status is well.
pub fn execution_tone(status: i32) -> Tone {
    match ExecutionStatus::try_from(status) {
        Ok(ExecutionStatus::Succeeded) => Tone::Good,
        Ok(ExecutionStatus::Failed | ExecutionStatus::TimedOut | ExecutionStatus::DeadLetter) => Tone::Bad,
        _ => Tone::Warn,
    }
}

/// Whether an event's result is well.
pub fn result_tone(result: i32) -> Tone {
    match AuditResult::try_from(result) {
        Ok(AuditResult::Success) => Tone::Good,
        Ok(AuditResult::Failure) => Tone::Bad,
        _ => Tone::Warn,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_the_contracts_names_without_prefix() {
        assert_eq!(word::<Category>(Category::WebSearch as i32), "web_search");
        assert_eq!(word::<Effect>(0), "");
        assert_eq!(word::<Role>(99), "99");
        assert_eq!(contract_name::<Effect>("read_only"), Some("EFFECT_READ_ONLY"));
        assert_eq!(contract_name::<Effect>("EFFECT_READ_ONLY"), Some("EFFECT_READ_ONLY"));
        assert_eq!(contract_name::<Effect>("readonly"), None);
    }

    #[test]
    fn the_command_line_takes_every_word_and_nothing_else() {
        let command = |value: &str| {
            clap::Command::new("x")
                .arg(clap::Arg::new("c").value_parser(parser::<Category>()))
                .try_get_matches_from(["x", value])
                .map(|matches| matches.get_one::<Category>("c").copied())
        };
        assert_eq!(command("custom").unwrap(), Some(Category::Custom));
        assert_eq!(all::<Category>().count(), 11);
        assert!(command("unspecified").is_err());
    }
}
