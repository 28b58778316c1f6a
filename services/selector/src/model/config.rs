//! The settings of the model that may help, under `[selector.model]`. Must never hold its key: only where that is.

use std::{path::PathBuf, time::Duration};

use reach::Reach;
use serde::{Deserialize, Deserializer};
use url::Url;

use super::key;

/// What a model may be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Use {
    /// What a task asks for, before tools are ranked.
    Requirements,
    /// How well the best tools fit it.
    Fit,
    /// Why the first one is the right one.
    Reasoning,
}

impl Use {
    /// The word for it in settings, answers and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Requirements => "requirements",
            Self::Fit => "fit",
            Self::Reasoning => "reasoning",
        }
    }

    fn from_word(word: &str) -> Option<Self> {
        [Self::Requirements, Self::Fit, Self::Reasoning].into_iter().find(|known| known.as_str() == word)
    }
}

/// Settings of the model; the embedded `default.toml` has a value for each.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where an OpenAI-compatible server is, such as `https://models.example.com/v1`; `/chat/completions` is added.
    /// Empty: no model is ever asked.
    pub endpoint: String,
    /// The model's name there.
    pub model: String,
    /// File that holds the key; it is read for each question, so that another key counts at once. Empty: none is sent.
    pub key_file: PathBuf,
    /// Whether the endpoint may be a private address and be without TLS.
    pub allow_private_network: bool,
    /// Whether the model helps where a request does not say.
    pub by_default: bool,
    /// What it may be asked for; a list, or a text with commas, as an environment variable has it.
    #[serde(deserialize_with = "uses")]
    pub uses: Vec<Use>,
    /// How long all questions of one selection may take together, in milliseconds; never more than half of what the
    /// caller still waits.
    pub timeout_ms: u64,
    /// Longest answer that is asked for, in tokens.
    pub max_tokens: u32,
    /// Questions a day (UTC) for each team, in each process.
    pub daily_calls_per_team: u64,
    /// How long an answer counts for the same question, in seconds.
    pub cache_ttl_s: u64,
}

fn uses<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Use>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Uses {
        List(Vec<Use>),
        Text(String),
    }
    let text = match Uses::deserialize(deserializer)? {
        Uses::List(uses) => return Ok(uses),
        Uses::Text(text) => text,
    };
    let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
    let known = |word| {
        let wrong = || serde::de::Error::custom(format!("{word:?} is not requirements, fit or reasoning"));
        Use::from_word(word).ok_or_else(wrong)
    };
    words.map(known).collect()
}

impl Config {
    /// Whether there is a model to ask.
    pub fn is_on(&self) -> bool {
        !self.endpoint.is_empty()
    }

    /// Every fault of the settings; of those that count only with a model, where there is one.
    pub fn validate(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut range = |name: &str, value: u64, least: u64, most: u64| {
            if !(least..=most).contains(&value) {
                faults.push(format!("selector.model.{name} must be {least} to {most}"));
            }
        };
        range("timeout_ms", self.timeout_ms, 50, 30_000);
        range("max_tokens", self.max_tokens.into(), 16, 8_192);
        range("daily_calls_per_team", self.daily_calls_per_team, 1, 10_000_000);
        range("cache_ttl_s", self.cache_ttl_s, 1, 604_800);
        if !self.is_on() {
            return faults;
        }
        if let Err(fault) = self.address() {
            faults.push(format!("selector.model.endpoint {fault}"));
        }
        if self.model.trim().is_empty() {
            faults.push("selector.model.model is not set: the name of the model at the endpoint".to_owned());
        }
        if let Err(fault) = key::check(&self.key_file) {
            faults.push(format!("selector.model.key_file {fault}"));
        }
        faults
    }

    /// The address that is asked, or what is wrong with the endpoint.
    pub(super) fn address(&self) -> Result<Url, String> {
        let mut url =
            Url::parse(&self.endpoint).map_err(|_| "is not an address, such as https://example.com/v1")?;
        if !self.allow_private_network && url.scheme() != "https" {
            return Err(
                "must begin with https:// (selector.model.allow_private_network allows others)".into()
            );
        }
        self.reach().check(&url).map_err(|refused| format!("may not be asked: {refused}"))?;
        let mut path = url.path_segments_mut().map_err(|()| "has no path")?;
        path.pop_if_empty().extend(["chat", "completions"]);
        drop(path);
        Ok(url)
    }

    pub(super) fn reach(&self) -> Reach {
        if self.allow_private_network { Reach::Any } else { Reach::PUBLIC }
    }

    pub(super) fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }
}

#[cfg(test)]
impl Config {
    /// One that is off.
    pub(crate) fn off() -> Self {
        Self {
            endpoint: String::new(),
            model: String::new(),
            key_file: PathBuf::new(),
            allow_private_network: false,
            by_default: true,
            uses: vec![Use::Requirements, Use::Fit, Use::Reasoning],
            timeout_ms: 1_500,
            max_tokens: 400,
            daily_calls_per_team: 1_000,
            cache_ttl_s: 3_600,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_about_the_endpoint_counts_while_there_is_none() {
        assert_eq!(Config::off().validate(), Vec::<String>::new());
        let bad = Config { timeout_ms: 0, max_tokens: 1, cache_ttl_s: 0, ..Config::off() };
        assert_eq!(bad.validate().len(), 3);
    }

    #[test]
    fn an_endpoint_is_public_and_over_tls_unless_the_operator_says_otherwise() {
        let at = |endpoint: &str, allow_private_network| Config {
            endpoint: endpoint.into(),
            model: "m".into(),
            allow_private_network,
            ..Config::off()
        };
        let good = at("https://models.example.com/v1/", false);
        assert_eq!(good.validate(), Vec::<String>::new());
        assert_eq!(good.address().unwrap().as_str(), "https://models.example.com/v1/chat/completions");
        let versioned = at("https://models.example.com/x?api-version=1", false);
        assert_eq!(
            versioned.address().unwrap().as_str(),
            "https://models.example.com/x/chat/completions?api-version=1"
        );
        for bad in ["models", "http://models.example.com", "https://127.0.0.1/v1", "https://a:b@example.com"]
        {
            assert_eq!(at(bad, false).validate().len(), 1, "{bad}");
        }
        assert_eq!(at("http://127.0.0.1:8080/v1", true).validate(), Vec::<String>::new());
        let nameless = Config { model: " ".into(), key_file: "/nowhere/key".into(), ..good };
        assert_eq!(nameless.validate().len(), 2, "{:?}", nameless.validate());
    }

    #[test]
    fn uses_are_a_list_or_a_text_of_known_words() {
        #[derive(Debug, Deserialize)]
        struct Part {
            #[serde(deserialize_with = "uses")]
            uses: Vec<Use>,
        }
        let read = |json: &str| serde_json::from_str::<Part>(json).map(|part| part.uses);
        assert_eq!(read(r#"{"uses":["fit"]}"#).unwrap(), [Use::Fit]);
        assert_eq!(read(r#"{"uses":"fit, reasoning"}"#).unwrap(), [Use::Fit, Use::Reasoning]);
        assert!(read(r#"{"uses":""}"#).unwrap().is_empty());
        assert!(read(r#"{"uses":"everything"}"#).is_err());
    }
}
