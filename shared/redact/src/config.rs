//! What may be set of redaction: what goes besides what always does, and which detectors are left out, for everybody,
//! for a team, and (only more) for a tool. Must never leave out a credential, a mark of a schema, a private key or a
//! token of a known provider.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

/// Most names and patterns of one place.
const MAX_KEYS: usize = 100;
const MAX_PATTERNS: usize = 20;
/// Longest name, name of a pattern and pattern, in bytes.
const MAX_KEY: usize = 100;
const MAX_NAME: usize = 40;
const MAX_PATTERN: usize = 500;
/// Longest text that a pattern may match, in bytes: what bounds the work of finding all that it matches.
pub(crate) const MAX_MATCH: usize = 1 << 10;
/// Most memory of a pattern once it is compiled, in bytes.
pub(crate) const MAX_COMPILED: usize = 1 << 18;

/// Settings of redaction, under `[redaction]`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Names whose values go, besides those that always do.
    #[serde(default)]
    pub keys: Vec<String>,
    /// What else goes.
    #[serde(default)]
    pub patterns: Vec<Pattern>,
    /// Detectors that are left out.
    #[serde(default)]
    pub off: Vec<String>,
    /// The same for single teams, added to the above.
    #[serde(default)]
    pub teams: BTreeMap<String, TeamConfig>,
}

/// Settings of one team, under `[redaction.teams.NAME]`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TeamConfig {
    /// Names whose values go.
    #[serde(default)]
    pub keys: Vec<String>,
    /// What else goes.
    #[serde(default)]
    pub patterns: Vec<Pattern>,
    /// Detectors that are left out.
    #[serde(default)]
    pub off: Vec<String>,
}

/// A form of text that goes wherever it stands.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pattern {
    /// What a finding is called.
    pub name: String,
    /// A regular expression of the `regex` crate: no look-around, no back-references.
    pub pattern: String,
}

/// What is added to what always goes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Added {
    /// Names whose values go.
    pub keys: Vec<String>,
    /// What else goes.
    pub patterns: Vec<Pattern>,
}

/// What is wrong with settings, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Such as `patterns[1].pattern`.
    pub field: String,
    /// What is wrong and what would be right.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.field, self.message)
    }
}

/// A detector that may be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Detector {
    Jwt,
    Authorization,
    UrlUserInfo,
    ConnectionString,
    NamedSecret,
    Card,
    Iban,
    Email,
    Phone,
    Ssn,
}

impl Detector {
    const ALL: [(Self, &'static str); 10] = [
        (Self::Jwt, "jwt"),
        (Self::Authorization, "authorization"),
        (Self::UrlUserInfo, "url_user_info"),
        (Self::ConnectionString, "connection_string"),
        (Self::NamedSecret, "named_secret"),
        (Self::Card, "card"),
        (Self::Iban, "iban"),
        (Self::Email, "email"),
        (Self::Phone, "phone"),
        (Self::Ssn, "ssn"),
    ];

    fn of(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == name).map(|(detector, _)| *detector)
    }
}

/// Detectors that are left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Off(u16);

impl Off {
    pub(crate) fn has(self, detector: Detector) -> bool {
        self.0 & (1 << detector as u16) != 0
    }

    /// Adds those of these names; names that are none are told by `Config::validate`.
    pub(crate) fn add(&mut self, names: &[String]) {
        for detector in names.iter().filter_map(|name| Detector::of(name)) {
            self.0 |= 1 << detector as u16;
        }
    }
}

impl Config {
    /// Every fault of the settings.
    #[must_use]
    pub fn validate(&self) -> Vec<String> {
        let tell = |prefix: String| move |fault: Fault| format!("{prefix}{fault}");
        let added = |keys: &[String], patterns: &[Pattern]| {
            Added { keys: keys.to_vec(), patterns: patterns.to_vec() }.faults()
        };
        let mut faults: Vec<String> =
            added(&self.keys, &self.patterns).into_iter().map(tell("redaction.".into())).collect();
        faults.extend(off_faults(&self.off).into_iter().map(tell("redaction.".into())));
        for (name, team) in &self.teams {
            let tell = || tell(format!("redaction.teams.{name}."));
            faults.extend(added(&team.keys, &team.patterns).into_iter().map(tell()));
            faults.extend(off_faults(&team.off).into_iter().map(tell()));
        }
        faults
    }
}

fn off_faults(off: &[String]) -> Vec<Fault> {
    let known: Vec<&str> = Detector::ALL.iter().map(|(_, name)| *name).collect();
    let wrong = |(index, name): (usize, &String)| {
        let message = format!("is {name:?}; what may be left out is one of {}", known.join(", "));
        Detector::of(name).is_none().then(|| Fault { field: format!("off[{index}]"), message })
    };
    off.iter().enumerate().filter_map(wrong).collect()
}

impl Added {
    /// From names, and pairs of a pattern's name and the pattern.
    #[must_use]
    pub fn of(keys: Vec<String>, patterns: impl IntoIterator<Item = (String, String)>) -> Self {
        let patterns = patterns.into_iter().map(|(name, pattern)| Pattern { name, pattern }).collect();
        Self { keys, patterns }
    }

    /// Whether nothing is added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.patterns.is_empty()
    }

    /// Everything that is wrong with it.
    #[must_use]
    pub fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut add = |field: String, message: String| faults.push(Fault { field, message });
        if self.keys.len() > MAX_KEYS {
            add("keys".into(), format!("has {} names; {MAX_KEYS} are the most", self.keys.len()));
        }
        for (index, key) in self.keys.iter().enumerate() {
            let letters = key.trim_start_matches('*').chars().filter(|c| c.is_alphanumeric()).count();
            let least = if key.starts_with('*') { 3 } else { 2 };
            if key.len() > MAX_KEY
                || letters < least
                || key.matches('*').count() > usize::from(key.starts_with('*'))
            {
                let wanted = format!(
                    "must have {least} letters or digits or more, up to {MAX_KEY} bytes, and * only first"
                );
                add(format!("keys[{index}]"), wanted);
            }
        }
        if self.patterns.len() > MAX_PATTERNS {
            add(
                "patterns".into(),
                format!("has {} patterns; {MAX_PATTERNS} are the most", self.patterns.len()),
            );
        }
        for (index, pattern) in self.patterns.iter().enumerate() {
            if !is_name(&pattern.name) {
                let wanted = format!("must be lower-case letters, digits and _, 1 to {MAX_NAME}");
                add(format!("patterns[{index}].name"), wanted);
            }
            if self.patterns[..index].iter().any(|earlier| earlier.name == pattern.name) {
                add(format!("patterns[{index}].name"), format!("{:?} is there twice", pattern.name));
            }
            if let Err(message) = compiled(&pattern.pattern) {
                add(format!("patterns[{index}].pattern"), message);
            }
        }
        faults
    }
}

fn is_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(is_plain)
}

/// A pattern ready for use, or what is wrong with it.
pub(crate) fn compiled(pattern: &str) -> Result<regex::Regex, String> {
    if pattern.is_empty() || pattern.len() > MAX_PATTERN {
        return Err(format!("has {} bytes; it must have 1 to {MAX_PATTERN}", pattern.len()));
    }
    let built =
        regex::RegexBuilder::new(pattern).size_limit(MAX_COMPILED).dfa_size_limit(MAX_COMPILED).build();
    let built = built.map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => {
            format!("is larger than {MAX_COMPILED} bytes once it is compiled; repeat less")
        }
        // The words of the crate point at the place, over several lines.
        error => format!("cannot be used: {}", error.to_string().replace('\n', " ").trim()),
    })?;
    if built.is_match("") {
        return Err("matches the empty text, and so every text".into());
    }
    let parsed = regex_syntax::parse(pattern);
    let longest = parsed.ok().and_then(|parsed| parsed.properties().maximum_len());
    if longest.is_none_or(|longest| longest > MAX_MATCH) {
        return Err(format!(
            "may match more than {MAX_MATCH} bytes; say how often it repeats at most, such as {{1,100}} in place of + \
             and {{0,100}} in place of *"
        ));
    }
    Ok(built)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(name: &str, pattern: &str) -> Pattern {
        Pattern { name: name.into(), pattern: pattern.into() }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let team = TeamConfig {
            keys: vec!["badge".into(), "*".into(), "a*b".into()],
            patterns: vec![
                pattern("badge", r"B-\d{6}"),
                pattern("badge", "("),
                pattern("Big", r"\w{5000}"),
                pattern("e", "x*"),
                pattern("f", "K-[0-9]+"),
                pattern("g", "K-[0-9]{1,1022}"),
                pattern("h", "K-[0-9]{1,1023}"),
            ],
            off: vec!["email".into(), "private_key".into(), "github_token".into()],
        };
        let config = Config {
            off: vec!["emails".into()],
            teams: [("blue".to_owned(), team)].into(),
            ..Config::default()
        };
        let faults = config.validate();
        let fields: Vec<&str> = faults.iter().map(|fault| fault.split(' ').next().unwrap()).collect();
        let at = |field: &str| format!("redaction.teams.blue.{field}");
        let mut expected = vec!["redaction.off[0]".to_owned()];
        expected.extend(
            [
                "keys[1]",
                "keys[2]",
                "patterns[1].name",
                "patterns[1].pattern",
                "patterns[2].name",
                "patterns[2].pattern",
                "patterns[3].pattern",
                "patterns[4].pattern",
                "patterns[6].pattern",
                "off[1]",
                "off[2]",
            ]
            .map(at),
        );
        assert_eq!(fields, expected, "{faults:?}");
        assert!(faults[4].contains("unclosed group"), "{}", faults[4]);
        assert!(faults[8].contains("{1,100} in place of +"), "{}", faults[8]);
        assert!(Config::default().validate().is_empty());
    }

    #[test]
    fn only_what_is_named_is_off() {
        let mut off = Off::default();
        off.add(&["email".into(), "aws_access_key_id".into(), "private_key".into()]);
        let is_off = Detector::ALL.iter().filter(|(detector, _)| off.has(*detector));
        assert_eq!(is_off.map(|(_, name)| *name).collect::<Vec<_>>(), ["email"]);
    }
}
