//! How a server is reached. Carries secrets (environment, headers, arguments, the query of an address), so
//! it must never show them: `Debug` and `Display` give names and counts only.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Where an MCP server is and how to reach it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Transport {
    /// A child process that speaks MCP on its standard input and output.
    Stdio {
        /// The program: an absolute path, or a name looked up in `PATH`.
        command: String,
        /// Its arguments.
        #[serde(default)]
        args: Vec<String>,
        /// Its environment, besides `PATH`, `HOME` and `LANG`. Nothing else is inherited.
        #[serde(default)]
        env: BTreeMap<String, String>,
    },
    /// A streamable HTTP endpoint.
    Http {
        /// The endpoint, `http` or `https`.
        url: String,
        /// Headers sent with every request, for example `authorization`.
        #[serde(default)]
        headers: BTreeMap<String, String>,
    },
}

impl Transport {
    /// Every value that must not be repeated to anybody, even when the server itself says it.
    pub(crate) fn secrets(&self) -> Vec<String> {
        let (values, query) = match self {
            Self::Stdio { env, .. } => (env, None),
            Self::Http { url, headers } => (headers, reqwest::Url::parse(url).ok()),
        };
        let query = query.iter().flat_map(|url| url.query_pairs().map(|(_, value)| value.into_owned()));
        // A server may repeat a key without the word before it, such as "Bearer".
        let keys = values.values().filter_map(|value| value.split_once(' ').map(|(_, key)| key.to_owned()));
        let mut all: Vec<String> = values.values().cloned().chain(keys).chain(query).collect();
        all.retain(|value| value.len() >= SHORTEST_SECRET);
        // The longest first: what is left of one that holds another would tell a part of it.
        all.sort_by_key(|value| std::cmp::Reverse(value.len()));
        all
    }
}

/// Shorter values (`1`, `en`) are no secrets, and hiding them would make texts unreadable.
const SHORTEST_SECRET: usize = 4;

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdio { command, .. } => write!(f, "{command}"),
            Self::Http { url, .. } => write!(f, "{}", public_address(url)),
        }
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdio { command, args, env } => f
                .debug_struct("Stdio")
                .field("command", command)
                .field("args", &args.len())
                .field("env", &env.keys().collect::<Vec<_>>())
                .finish(),
            Self::Http { url, headers } => f
                .debug_struct("Http")
                .field("url", &public_address(url))
                .field("headers", &headers.keys().collect::<Vec<_>>())
                .finish(),
        }
    }
}

/// The address without user, password, query and fragment.
fn public_address(url: &str) -> String {
    let Ok(mut url) = reqwest::Url::parse(url) else {
        return "(not a valid address)".to_owned();
    };
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.set_fragment(None);
    url.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str, value: &str) -> BTreeMap<String, String> {
        BTreeMap::from([(name.to_owned(), value.to_owned())])
    }

    #[test]
    fn neither_debug_nor_display_shows_a_secret() {
        let stdio = Transport::Stdio {
            command: "server".into(),
            args: vec!["--key=hunter2".into()],
            env: one("API_KEY", "hunter2"),
        };
        let http = Transport::Http {
            url: "https://me:hunter2@example.org/mcp?key=hunter2#hunter2".into(),
            headers: one("authorization", "Bearer hunter2"),
        };
        let shown = format!("{stdio:?} {stdio} {http:?} {http}");
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(shown.contains("API_KEY") && shown.contains("https://example.org/mcp"), "{shown}");
    }

    #[test]
    fn every_part_that_may_be_secret_is_known() {
        let url = "https://example.org/mcp?key=in-the-query&n=1".to_owned();
        let http = Transport::Http { url, headers: one("authorization", "Bearer hunter2") };
        assert_eq!(http.secrets(), ["Bearer hunter2", "in-the-query", "hunter2"]);
    }

    #[test]
    fn survives_json_and_fills_in_defaults() {
        let read: Transport = serde_json::from_str(r#"{"kind":"stdio","command":"x"}"#).unwrap();
        assert_eq!(read, Transport::Stdio { command: "x".into(), args: vec![], env: BTreeMap::new() });
        let http = Transport::Http { url: "http://h/".into(), headers: one("a", "b") };
        let text = serde_json::to_string(&http).unwrap();
        assert_eq!(serde_json::from_str::<Transport>(&text).unwrap(), http);
    }
}
