//! Which programs may be run as MCP servers. Decides by names alone: it must never look at the file system,
//! whose answer may be another one by the time that the program starts.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::transport::Transport;

/// The setting that an operator changes to allow more; named in every refusal.
pub const SETTING: &str = "mcp.stdio_commands";

/// Stands for every program.
const ANY: &str = "*";

/// Variables by which a program of one's own gets into one that is allowed: other search paths, libraries and
/// modules that are loaded first, options of a language's runtime, programs and settings that it takes up; and those
/// that lead what it sends elsewhere. A `*` stands for the rest of a name, at its start or its end. `HOME` is among
/// them since Python and Node.js load modules and settings from there.
const STEERING: [&str; 61] = [
    "PATH",
    "HOME",
    "LD_*",
    "DYLD_*",
    "GLIBC_TUNABLES",
    "GCONV_PATH",
    "LOCPATH",
    "NLSPATH",
    "TERMINFO*",
    "OPENSSL_*",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "CURL_CA_BUNDLE",
    "CURL_HOME",
    "REQUESTS_CA_BUNDLE",
    "*_PROXY",
    "HOSTALIASES",
    "LOCALDOMAIN",
    "RES_OPTIONS",
    "KUBECONFIG",
    "AWS_CONFIG_FILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_CA_BUNDLE",
    "EDITOR",
    "VISUAL",
    "PAGER",
    "BROWSER",
    "LESSOPEN",
    "LESSCLOSE",
    "PYTHON*",
    "NODE_*",
    "NPM_CONFIG_*",
    "PIP_*",
    "UV_*",
    "VIRTUAL_ENV",
    "PERL*",
    "RUBY*",
    "GEM_*",
    "BUNDLE_*",
    "JAVA_TOOL_OPTIONS",
    "_JAVA_OPTIONS",
    "JDK_JAVA_OPTIONS",
    "CLASSPATH",
    "LUA_*",
    "PHPRC",
    "PHP_INI_SCAN_DIR",
    "R_PROFILE*",
    "R_ENVIRON*",
    "BASH_*",
    "BASHOPTS",
    "ENV",
    "ZDOTDIR",
    "SHELLOPTS",
    "PROMPT_COMMAND",
    "IFS",
    "PS4",
    "GIT_*",
    "DENO_*",
    "BUN_*",
    "DOTNET_*",
    "XDG_*",
];

/// Of these, the ones that change only how it writes and warns.
const HARMLESS: [&str; 7] = [
    "PYTHONUNBUFFERED",
    "PYTHONUTF8",
    "PYTHONIOENCODING",
    "PYTHONDONTWRITEBYTECODE",
    "PYTHONHASHSEED",
    "NODE_ENV",
    "NODE_NO_WARNINGS",
];

/// The programs that may be run as MCP servers: names, looked up on PATH, and absolute paths. Empty: none; `*`:
/// every one, with whatever environment. A program that runs others (`npx`, `uvx`, `python3`, a shell) lets
/// whoever registers a server run anything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Commands(Vec<String>);

/// Why a server may not be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotAllowed {
    /// The program is not on the list.
    Program(String),
    /// This variable would let another program in.
    Variable(String),
}

impl Commands {
    /// Every program.
    pub fn any() -> Self {
        Self(vec![ANY.to_owned()])
    }

    /// Those on the list.
    pub fn only(programs: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self(programs.into_iter().map(Into::into).collect())
    }

    /// Whether no program is allowed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What is wrong with the list, each fault with the setting's name.
    pub fn validate(&self) -> Vec<String> {
        let is_path = |entry: &str| {
            let mut parts = entry.split('/').skip(1);
            entry.starts_with('/') && parts.all(|part| !matches!(part, "" | "." | ".."))
        };
        let is_sound = |entry: &str| {
            !entry.contains(char::is_control)
                && !entry.trim().is_empty()
                && (entry == ANY || !entry.contains('*') && (is_path(entry) || !entry.contains('/')))
        };
        let wrong = self.0.iter().filter(|entry| !is_sound(entry));
        wrong
            .map(|entry| {
                format!(
                    "{SETTING}: {entry:?} is neither a name, nor an absolute path without . and .., nor \"*\""
                )
            })
            .collect()
    }

    /// Whether a server may be reached so; one that is not a program always may.
    pub fn check(&self, transport: &Transport) -> Result<(), NotAllowed> {
        let Transport::Stdio { command, env, .. } = transport else { return Ok(()) };
        if self.0.iter().any(|entry| entry == ANY) {
            return Ok(());
        }
        // A name without a slash is found on PATH; a path is taken as it stands. Neither stands for the other.
        if !self.0.iter().any(|entry| entry == command) {
            return Err(NotAllowed::Program(command.clone()));
        }
        match env.keys().find(|name| steers(name)) {
            Some(name) => Err(NotAllowed::Variable(name.clone())),
            None => Ok(()),
        }
    }
}

/// Whether a variable can let another program into the one that is started.
fn steers(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    let is_one = |pattern: &&str| match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(end), _) => name.ends_with(end),
        (None, Some(start)) => name.starts_with(start),
        (None, None) => name == **pattern,
    };
    STEERING.iter().any(is_one) && !HARMLESS.contains(&name.as_str())
}

impl fmt::Display for NotAllowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Program(program) => write!(
                f,
                "the program {:?} may not be run as an MCP server: {SETTING} does not name it",
                shown(program)
            ),
            Self::Variable(name) => write!(
                f,
                "the variable {:?} may not be given to an MCP server, since it could make another program of \
                 it: {SETTING} would have to be [\"*\"]",
                shown(name)
            ),
        }
    }
}

impl std::error::Error for NotAllowed {}

fn shown(text: &str) -> String {
    text.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stdio(command: &str, env: &[&str]) -> Transport {
        let env = env.iter().map(|name| ((*name).to_owned(), "x".to_owned())).collect();
        Transport::Stdio { command: command.to_owned(), args: vec![], env }
    }

    #[test]
    fn a_program_is_run_only_as_it_is_named() {
        let list = Commands::only(["mcp-server-time", "/opt/mcp/files"]);
        assert_eq!(list.validate(), Vec::<String>::new());
        for good in ["mcp-server-time", "/opt/mcp/files"] {
            assert_eq!(
                list.check(&stdio(good, &["TZ", "API_KEY", "AWS_ACCESS_KEY_ID", "PYTHONUTF8"])),
                Ok(()),
                "{good}"
            );
        }
        for bad in [
            "./mcp-server-time",
            "/tmp/mcp-server-time",
            "mcp-server-time ",
            "MCP-SERVER-TIME",
            "files",
            "/opt/mcp/../mcp/files",
            "/opt//mcp/files",
            "/opt/mcp/files/",
            "sh",
            "*",
            "",
        ] {
            assert_eq!(list.check(&stdio(bad, &[])), Err(NotAllowed::Program(bad.into())), "{bad}");
        }
        let http = Transport::Http { url: "http://h/".into(), headers: [].into() };
        assert_eq!(Commands::default().check(&http), Ok(()));
        assert!(Commands::default().check(&stdio("x", &[])).is_err());
        assert_eq!(Commands::any().check(&stdio("/any/thing", &["LD_PRELOAD"])), Ok(()));
    }

    #[test]
    fn no_variable_lets_another_program_in() {
        let list = Commands::only(["server"]);
        for bad in [
            "PATH",
            "Path",
            "LD_PRELOAD",
            "LD_LIBRARY_PATH",
            "DYLD_INSERT_LIBRARIES",
            "PYTHONPATH",
            "PYTHONHOME",
            "PYTHONSTARTUP",
            "NODE_OPTIONS",
            "NODE_PATH",
            "npm_config_registry",
            "BASH_ENV",
            "ENV",
            "HOME",
            "PERL5OPT",
            "RUBYOPT",
            "JAVA_TOOL_OPTIONS",
            "GIT_SSH_COMMAND",
            "XDG_CONFIG_HOME",
            "UV_INDEX_URL",
            "KUBECONFIG",
            "OPENSSL_CONF",
            "OPENSSL_MODULES",
            "OPENSSL_ENGINES",
            "AWS_CONFIG_FILE",
            "AWS_SHARED_CREDENTIALS_FILE",
            "HTTPS_PROXY",
            "http_proxy",
            "SSL_CERT_FILE",
            "SSL_CERT_DIR",
            "EDITOR",
            "VISUAL",
            "PAGER",
            "LUA_INIT",
            "LUA_INIT_5_4",
            "PHPRC",
            "R_PROFILE",
            "R_PROFILE_USER",
            "PROMPT_COMMAND",
            "PERL5LIB",
            "_JAVA_OPTIONS",
            "DOTNET_STARTUP_HOOKS",
            "GCONV_PATH",
            "LOCPATH",
            "TERMINFO_DIRS",
            "IFS",
        ] {
            let refused = list.check(&stdio("server", &["TZ", bad])).unwrap_err();
            assert_eq!(refused, NotAllowed::Variable(bad.into()));
            assert!(refused.to_string().contains(bad) && refused.to_string().contains(SETTING), "{refused}");
        }
    }

    #[test]
    fn a_list_that_says_less_than_it_seems_to_is_told() {
        for bad in ["", " ", "./x", "bin/x", "/opt/../x", "/opt//x", "mcp-*", "/opt/*", "a\nb"] {
            let faults = Commands::only(["fine", bad]).validate();
            assert!(
                faults.len() == 1 && faults[0].starts_with("mcp.stdio_commands: "),
                "{bad:?}: {faults:?}"
            );
        }
        assert_eq!(Commands::any().validate(), Vec::<String>::new());
    }
}
