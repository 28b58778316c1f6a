//! Servers from a file in the form that MCP clients use: `{"mcpServers": {"NAME": {"command": …}}}`. What looks like
//! a secret there becomes a credential: it must never be sent as part of a transport, which is kept as it is.

use std::collections::BTreeMap;

use proto::registry::v1::{
    CredentialSecret, CredentialUse, HttpTransport, McpTransport, PutCredentialRequest, StdioTransport,
    credential_secret, credential_use::Place, mcp_transport,
};
use serde::Deserialize;

/// Parts of the names of variables and headers whose values are secret.
const SECRET_WORDS: [&str; 8] =
    ["TOKEN", "KEY", "SECRET", "PASSWORD", "PASSWD", "AUTHORIZATION", "CREDENTIAL", "COOKIE"];

/// The file.
#[derive(Deserialize)]
struct File {
    #[serde(rename = "mcpServers", alias = "servers")]
    servers: BTreeMap<String, Given>,
}

/// A server as the file gives it. Clients have settings of their own beside these.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Given {
    #[serde(rename = "type", alias = "transport")]
    kind: Option<String>,
    command: Option<String>,
    args: Vec<String>,
    env: BTreeMap<String, String>,
    cwd: Option<String>,
    #[serde(alias = "serverUrl")]
    url: Option<String>,
    headers: BTreeMap<String, String>,
    disabled: bool,
}

/// A server of the file, ready to be added.
#[allow(missing_debug_implementations, reason = "holds secrets")]
pub struct Entry {
    /// Its name, in letters that a name may have.
    pub name: String,
    /// How it is reached; its credentials are to be put before.
    pub transport: McpTransport,
    /// What it is reached with.
    pub credentials: Vec<PutCredentialRequest>,
}

/// The servers of a file and the names of those that are switched off there.
pub fn parse(text: &str) -> Result<(Vec<Entry>, Vec<String>), String> {
    let file: File = serde_json::from_str(text)
        .map_err(|error| format!("is not of the form {{\"mcpServers\": {{\"NAME\": …}}}}: {error}"))?;
    let (mut entries, mut off, mut wrong) = (Vec::<Entry>::new(), Vec::new(), Vec::new());
    for (name, given) in file.servers {
        if given.disabled {
            off.push(name);
            continue;
        }
        match entry(&name, given) {
            Ok(entry) if entries.iter().any(|other| other.name == entry.name) => {
                wrong.push(format!("{name}: another server of the file is called {} too", entry.name));
            }
            Ok(entry) => entries.push(entry),
            Err(error) => wrong.push(format!("{name}: {error}")),
        }
    }
    match (wrong.is_empty(), entries.is_empty()) {
        (false, _) => Err(wrong.join("; ")),
        (true, true) => Err("names no server that is switched on".to_owned()),
        (true, false) => Ok((entries, off)),
    }
}

fn entry(given_name: &str, given: Given) -> Result<Entry, String> {
    let name = word(given_name);
    if name.is_empty() {
        return Err("has a name without a letter or digit".to_owned());
    }
    if given.cwd.is_some() {
        return Err("cwd cannot be set; give absolute paths".to_owned());
    }
    let placeholder = |value: &&String| value.contains("${");
    if let Some(value) = given.env.values().chain(given.headers.values()).chain(&given.args).find(placeholder)
    {
        let name = value.split_once("${").and_then(|(_, rest)| rest.split('}').next()).unwrap_or_default();
        return Err(format!("${{{name}}} is not filled in here; put the value there"));
    }
    let mut made = Entry { name, transport: McpTransport::default(), credentials: Vec::new() };
    made.transport.kind = Some(match (given.kind.as_deref(), given.command, given.url) {
        (None | Some("stdio"), Some(command), None) => {
            let env = made.without_secrets(given.env, Place::Env)?;
            mcp_transport::Kind::Stdio(StdioTransport { command, args: given.args, env })
        }
        (None | Some("http" | "streamable-http" | "streamableHttp"), None, Some(url)) => {
            let headers = made.without_secrets(given.headers, Place::Header)?;
            mcp_transport::Kind::Http(HttpTransport { url, headers })
        }
        (Some("sse"), _, _) => {
            return Err(
                "type sse is the transport of 2024 and not spoken here; give its streamable HTTP address"
                    .into(),
            );
        }
        (Some(other), None, None) | (Some(other), Some(_), Some(_)) => {
            return Err(format!("of type {other:?} it needs a command or a url"));
        }
        (kind, _, _) => {
            let kind = kind.map_or(String::new(), |kind| format!(" that fits type {kind:?}"));
            return Err(format!("needs either a command or a url{kind}"));
        }
    });
    Ok(made)
}

impl Entry {
    /// The values that may be kept as they are; each other one becomes a credential.
    fn without_secrets(
        &mut self,
        values: BTreeMap<String, String>,
        place: fn(String) -> Place,
    ) -> Result<std::collections::HashMap<String, String>, String> {
        let mut plain = std::collections::HashMap::new();
        for (key, value) in values {
            if !looks_secret(&key) || value.is_empty() {
                plain.insert(key, value);
                continue;
            }
            let (prefix, secret) = match value.split_once(' ') {
                Some((scheme @ ("Bearer" | "Basic" | "token" | "Token"), secret)) => {
                    (format!("{scheme} "), secret.trim().to_owned())
                }
                _ => (String::new(), value),
            };
            let mut credential = format!("{}-{}", self.name, word(&key));
            if credential.len() > 64 {
                return Err(format!("{key} makes too long a name of a credential: {credential}"));
            }
            credential.make_ascii_lowercase();
            self.transport.credentials.push(CredentialUse {
                credential: credential.clone(),
                place: Some(place(key)),
                prefix,
            });
            let secret = CredentialSecret { kind: Some(credential_secret::Kind::ApiKey(secret)) };
            self.credentials.push(PutCredentialRequest {
                name: credential,
                secret: Some(secret),
                ..PutCredentialRequest::default()
            });
        }
        Ok(plain)
    }
}

fn looks_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    SECRET_WORDS.iter().any(|word| name.contains(word)) || name.ends_with("_PAT") || name == "PAT"
}

/// In the letters of a name: a-z, 0-9, _ and -.
fn word(text: &str) -> String {
    let lower = text.to_lowercase();
    let letters = lower.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' });
    let word: String = letters.collect();
    word.trim_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_of_other_clients_is_understood() {
        let (entries, off) = parse(
            r#"{"mcpServers": {
                "Time Server": {"command": "mcp-server-time", "args": ["--local", "UTC"], "alwaysAllow": []},
                "files": {"type": "stdio", "command": "npx", "args": ["x", "/srv"], "env": {"LOG": "info"}},
                "demo": {"type": "http", "url": "http://127.0.0.1:1/mcp", "headers": {"x-region": "eu"}},
                "old": {"command": "x", "disabled": true}}}"#,
        )
        .unwrap();
        let names: Vec<_> = entries.iter().map(|entry| entry.name.as_str()).collect();
        assert_eq!((names, off), (vec!["time-server", "demo", "files"], vec!["old".to_owned()]));
        let Some(mcp_transport::Kind::Stdio(time)) = &entries[0].transport.kind else { panic!("not stdio") };
        assert_eq!((time.command.as_str(), time.args.len()), ("mcp-server-time", 2));
        let Some(mcp_transport::Kind::Http(demo)) = &entries[1].transport.kind else { panic!("not http") };
        assert_eq!(demo.headers["x-region"], "eu");
        assert!(entries.iter().all(|entry| entry.credentials.is_empty()));
        assert_eq!(parse(r#"{"servers": {"a": {"command": "x"}}}"#).unwrap().0.len(), 1);
    }

    #[test]
    fn what_looks_like_a_secret_becomes_a_credential() {
        let (mut entries, _) = parse(
            r#"{"mcpServers": {
                "github": {"command": "x", "env": {"GITHUB_TOKEN": "hunter2", "TZ": "UTC"}},
                "api": {"url": "http://h/", "headers": {"Authorization": "Bearer hunter2", "x-api-key": "hunter2"}}}}"#,
        )
        .unwrap();
        let github = entries.pop().unwrap();
        assert!(!format!("{:?}", github.transport).contains("hunter2"));
        assert_eq!(github.credentials[0].name, "github-github_token");
        assert_eq!(github.transport.credentials[0].place, Some(Place::Env("GITHUB_TOKEN".into())));
        let Some(mcp_transport::Kind::Stdio(stdio)) = &github.transport.kind else { panic!("not stdio") };
        assert_eq!(stdio.env.keys().collect::<Vec<_>>(), ["TZ"]);
        let api = entries.pop().unwrap();
        assert!(!format!("{:?}", api.transport).contains("hunter2"));
        let uses: Vec<_> = api
            .transport
            .credentials
            .iter()
            .map(|used| (used.credential.as_str(), used.prefix.as_str()))
            .collect();
        assert_eq!(uses, [("api-authorization", "Bearer "), ("api-x-api-key", "")]);
        let secret = api.credentials[0].secret.clone().unwrap().kind;
        assert_eq!(secret, Some(credential_secret::Kind::ApiKey("hunter2".into())));
    }

    #[test]
    fn what_cannot_be_done_is_told_with_the_server() {
        for (server, says) in [
            (r#""a": {}"#, "a: needs either"),
            (r#""a": {"command": "x", "url": "http://h/"}"#, "a: needs either"),
            (r#""a": {"type": "sse", "url": "http://h/"}"#, "streamable HTTP"),
            (r#""a": {"type": "http", "command": "x"}"#, "fits type"),
            (r#""a": {"command": "x", "cwd": "/srv"}"#, "cwd"),
            (r#""a": {"command": "x", "env": {"A": "${input:key}"}}"#, "input:key"),
            (r#""A b": {"command": "x"}, "a-b": {"command": "y"}"#, "called a-b too"),
            (r#""!": {"command": "x"}"#, "without a letter"),
            (r#""a": {"command": "x", "disabled": true}"#, "switched on"),
        ] {
            let text = format!(r#"{{"mcpServers": {{{server}}}}}"#);
            let error = parse(&text).err().unwrap();
            assert!(error.contains(says), "{server}: {error}");
        }
        assert!(parse("{}").err().unwrap().contains("mcpServers"));
    }
}
