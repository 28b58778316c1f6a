//! The rules under which something is stored: what always holds, what was added for a team and for a tool. Must never
//! let a tool's rules take anything away; where rules cannot be used, nothing is stored at all.

use std::{
    borrow::Cow,
    collections::HashMap,
    sync::{Arc, LazyLock, PoisonError, RwLock},
};

use serde_json::Value;

use crate::{
    MARK,
    config::{Added, Config, MAX_MATCH, Off, Pattern},
    names::Names,
    patterns::Patterns,
    report::{Finding, Report},
    scan::{Rule, Scan, Span, joined},
    value,
};

/// Rules of tools that are kept ready for use, and the patterns that they add, each of which may take some hundred
/// kilobytes; beyond either all are made again as they are used.
const MAX_KEPT: usize = 1_024;
const MAX_KEPT_PATTERNS: usize = 400;
/// Characters before the cut of a text that an excerpt does not show: a secret that stands there may be cut itself.
/// No shorter than what a pattern may match.
const MARGIN: usize = MAX_MATCH;

/// What holds for one call.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    pub(crate) off: Off,
    pub(crate) names: Names,
    pub(crate) patterns: Patterns,
    /// They cannot be used: everything goes.
    is_broken: bool,
}

static STANDARD: LazyLock<Rules> = LazyLock::new(Rules::default);

impl Rules {
    /// What holds where nothing is set.
    #[must_use]
    pub fn standard() -> &'static Self {
        &STANDARD
    }

    fn add(&mut self, keys: &[String], patterns: &[Pattern]) {
        for key in keys {
            self.names.add(key);
        }
        for pattern in patterns {
            // Registry and configuration have checked it; where one escaped them, nothing is stored.
            self.is_broken |= self.patterns.add(pattern).is_err();
        }
    }

    /// These rules and what a tool adds.
    #[must_use]
    pub fn with(&self, added: &Added) -> Self {
        let mut rules = self.clone();
        rules.add(&added.keys, &added.patterns);
        rules
    }

    /// A value as it may be stored, as JSON text: sanitised, without what its schema marks as secret, and dropped as a
    /// whole above `max_bytes`.
    #[must_use]
    pub fn json(&self, value: &Value, schema: Option<&Value>, max_bytes: usize) -> String {
        let text = match schema {
            None if !self.is_broken && value::is_clean(value, self, 0) => value.to_string(),
            _ => self.sanitised(value.clone(), schema, &mut Report::silent()).to_string(),
        };
        if text.len() <= max_bytes {
            return text;
        }
        serde_json::json!({ "redacted": "too large to store", "bytes": text.len() }).to_string()
    }

    /// What `json` stores, and what was taken out of it, and where.
    #[must_use]
    pub fn examined(&self, value: &Value, schema: Option<&Value>) -> (Value, Vec<Finding>) {
        let mut report = Report::default();
        let stored = self.sanitised(value.clone(), schema, &mut report);
        (stored, report.findings)
    }

    pub(crate) fn sanitised(&self, mut value: Value, schema: Option<&Value>, report: &mut Report) -> Value {
        if self.is_broken {
            return Value::from(MARK);
        }
        if let Some(schema) = schema {
            let before = (!report.is_silent()).then(|| value.clone());
            crate::marks::Marks::new(schema).apply(&mut value);
            if let Some(before) = before {
                report.compare(&before, &value);
            }
        }
        value::scrub(&mut value, self, 0, report);
        value
    }

    /// A text as it may be stored. NUL, which `PostgreSQL` does not store, is replaced.
    #[must_use]
    pub fn text(&self, text: &str) -> String {
        if self.is_text_clean(text, 0) {
            text.to_owned()
        } else {
            self.replaced(text, 0, &mut Report::silent())
        }
    }

    /// The first characters of a text as they may be stored. Cut after it is sanitised: half a secret is not known as
    /// one any more. What stands far behind the cut is not looked at; what stands right before the place up to which
    /// was looked is not shown, back to a space, since a secret may have been cut there.
    #[must_use]
    pub fn excerpt(&self, whole: &str, most: usize) -> String {
        let ahead = whole.char_indices().nth(most.saturating_mul(4).saturating_add(MARGIN));
        let Some((ahead, _)) = ahead else {
            return self.text(whole).chars().take(most).collect();
        };
        let clean = self.text(&whole[..ahead]);
        let before_margin = clean.char_indices().nth_back(MARGIN - 1).map_or(0, |(at, _)| at);
        // Only letters without spaces in ASCII make a secret that is longer than the margin.
        let before_word = clean.rfind(|c: char| c.is_whitespace() || !c.is_ascii()).unwrap_or(0);
        let shown = &clean[..before_margin.min(before_word)];
        if shown.is_empty() { MARK.chars().take(most).collect() } else { shown.chars().take(most).collect() }
    }

    pub(crate) fn is_text_clean(&self, text: &str, nested: usize) -> bool {
        !self.is_broken
            && !text.contains('\0')
            && !self.patterns.is_in(text)
            && !Scan::any(text, self, nested)
    }

    pub(crate) fn replaced(&self, text: &str, nested: usize, report: &mut Report) -> String {
        if self.is_broken {
            return MARK.to_owned();
        }
        let text = if text.contains('\0') {
            Cow::Owned(text.replace('\0', "\u{fffd}"))
        } else {
            Cow::Borrowed(text)
        };
        let spans = self.spans(&text, nested);
        let mut out = String::with_capacity(text.len());
        let mut at = 0;
        for span in &spans {
            report.text(self.rule(span.rule), text[span.start..span.end].chars().count());
            out.push_str(&text[at..span.start]);
            out.push_str(MARK);
            at = span.end;
        }
        out.push_str(&text[at..]);
        out
    }

    /// What is to be taken out of a text, in order.
    pub(crate) fn spans(&self, text: &str, nested: usize) -> Vec<Span> {
        let mut spans = Scan::all(text, self, nested);
        self.patterns.find(text, &mut spans);
        joined(spans)
    }

    pub(crate) fn rule(&self, rule: Rule) -> &str {
        match rule {
            Rule::Known(name) => name,
            Rule::Added(number) => self.patterns.name(number),
        }
    }
}

/// The rules of everybody.
#[derive(Debug, Default)]
pub struct Redaction {
    everybody: Arc<Rules>,
    teams: HashMap<String, Arc<Rules>>,
    /// By team and what a tool adds.
    tools: RwLock<HashMap<(String, Added), Arc<Rules>>>,
}

impl Redaction {
    /// The rules of settings that have been checked.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let mut everybody = Rules::default();
        everybody.add(&config.keys, &config.patterns);
        everybody.off.add(&config.off);
        let of_team = |(name, team): (&String, &crate::config::TeamConfig)| {
            let mut rules = everybody.clone();
            rules.add(&team.keys, &team.patterns);
            rules.off.add(&team.off);
            (name.clone(), Arc::new(rules))
        };
        let teams = config.teams.iter().map(of_team).collect();
        Self { everybody: Arc::new(everybody), teams, tools: RwLock::default() }
    }

    /// The rules of a team.
    #[must_use]
    pub fn team(&self, team: &str) -> Arc<Rules> {
        Arc::clone(self.teams.get(team).unwrap_or(&self.everybody))
    }

    /// The rules of a team's calls of a tool that adds something.
    #[must_use]
    pub fn tool(&self, team: &str, added: Added) -> Arc<Rules> {
        if added.is_empty() {
            return self.team(team);
        }
        let key = (team.to_owned(), added);
        if let Some(known) = self.tools.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Arc::clone(known);
        }
        let rules = Arc::new(self.team(team).with(&key.1));
        let mut tools = self.tools.write().unwrap_or_else(PoisonError::into_inner);
        let patterns: usize = tools.keys().map(|(_, added)| added.patterns.len()).sum();
        if tools.len() >= MAX_KEPT || patterns + key.1.patterns.len() > MAX_KEPT_PATTERNS {
            tools.clear();
        }
        tools.insert(key, Arc::clone(&rules));
        rules
    }
}
