//! `toolcrib audit redact`: what would be stored of a value or a text, and what was taken out of it where. Asks nobody
//! unless a tool is named; must never show what it takes out.

use std::{
    io::Read,
    path::{Path, PathBuf},
};

use anyhow::anyhow;
use clap::Args;
use proto::registry::v1::Tool;
use redact::{Added, Finding, Redaction};
use serde_json::{Value, json};

use super::{
    client::Client,
    error::Error,
    human,
    json::pretty,
    output::{Output, View},
    table::{Table, cell, number},
    tools,
};
use crate::config::Settings;

/// Examples of `redact`.
pub const HELP: &str = "Examples:
  toolcrib audit redact @answer.json
  kubectl logs api | toolcrib audit redact -
  toolcrib audit redact @arguments.json --tool http_request
  toolcrib audit redact @answer.json --tool http_request --result --config /etc/toolcrib.toml --team blue

Rules of the processes ([redaction] of their configuration) are known here only from --config.";

/// `toolcrib audit redact`.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct RedactArgs {
    /// What to try: JSON or any text, of a file or (-) of standard input
    #[arg(value_name = "@FILE")]
    input: String,
    /// Take it for arguments of this tool: its input schema and its settings hold as well
    #[arg(long, value_name = "NAME")]
    tool: Option<String>,
    /// Take it for a result of the tool instead: its output schema holds
    #[arg(long, requires = "tool")]
    result: bool,
    /// Configuration file whose [redaction] holds
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The team whose rules of it hold
    #[arg(long, value_name = "NAME", requires = "config")]
    team: Option<String>,
}

impl RedactArgs {
    /// Whether no server is asked.
    pub fn is_offline(&self) -> bool {
        self.tool.is_none()
    }
}

/// Runs the command without a server.
pub fn run_offline(args: &RedactArgs, output: &mut Output) -> Result<(), Error> {
    tried(args, None, output)
}

/// Runs the command with the schema and the settings of a tool.
pub async fn run(args: &RedactArgs, client: &Client, output: &mut Output) -> Result<(), Error> {
    let tool = match &args.tool {
        Some(name) => Some(tools::get(name, None, client).await?),
        None => None,
    };
    tried(args, tool.as_ref(), output)
}

fn tried(args: &RedactArgs, tool: Option<&Tool>, output: &mut Output) -> Result<(), Error> {
    let redaction = Redaction::new(&configured(args.config.as_ref())?);
    let rules = redaction.tool(args.team.as_deref().unwrap_or_default(), tool.map(added).unwrap_or_default());
    let text = read(&args.input)?;
    let value = serde_json::from_str(&text).unwrap_or(Value::String(text));
    let (stored, findings) = rules.examined(&value, tool.and_then(|tool| schema(tool, args.result)).as_ref());
    shown(&stored, &findings, output)
}

/// The settings of a file; without one, those of nobody.
fn configured(file: Option<&PathBuf>) -> Result<redact::Config, Error> {
    let Some(file) = file else { return Ok(redact::Config::default()) };
    let config = Settings::load(Some(file)).map_err(|error| Error::usage(format!("{error:#}")))?.redaction;
    match config.validate().as_slice() {
        [] => Ok(config),
        faults => Err(Error::usage(faults.join("\n"))),
    }
}

fn read(input: &str) -> Result<String, Error> {
    let mut bytes = Vec::new();
    let read = match input.strip_prefix('@') {
        None if input == "-" => std::io::stdin().read_to_end(&mut bytes).map(|_| ()),
        Some(file) => std::fs::read(Path::new(file)).map(|read| bytes = read),
        None => {
            return Err(Error::usage(format!(
                "{input:?} is neither @FILE nor -; a value itself is not taken"
            )));
        }
    };
    read.map_err(|error| Error::usage(format!("{input} cannot be read: {error}")))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn added(tool: &Tool) -> Added {
    let set = tool.settings.as_ref().and_then(|settings| settings.redaction.clone()).unwrap_or_default();
    Added::of(set.keys, set.patterns.into_iter().map(|it| (it.name, it.pattern)))
}

fn schema(tool: &Tool, is_result: bool) -> Option<Value> {
    let definition = tool.definition.as_ref()?;
    let text = if is_result { &definition.output_schema_json } else { &definition.input_schema_json };
    serde_json::from_str(text).ok()
}

fn shown(stored: &Value, findings: &[Finding], output: &mut Output) -> Result<(), Error> {
    if output.is_json() {
        let finding = |it: &Finding| json!({"pointer": it.pointer, "rule": it.rule, "length": it.length});
        let findings: Vec<Value> = findings.iter().map(finding).collect();
        return output.json(&json!({"stored": stored, "findings": findings}));
    }
    match stored {
        Value::String(text) => output.untrusted(text)?,
        value => {
            let text = serde_json::to_string(value).map_err(|error| anyhow!(error))?;
            output.untrusted(&pretty(&text))?;
        }
    }
    output.text("\n")?;
    output.view(|view| table(findings, view))
}

fn table(findings: &[Finding], view: View) -> String {
    let mut table = Table::new(&["WHERE", "RULE", "LENGTH"]).whole(&[1]);
    for finding in findings {
        let place = if finding.pointer.is_empty() { "the whole" } else { &finding.pointer };
        table.row(vec![cell(human::visible(place)), cell(&finding.rule), number(finding.length.to_string())]);
    }
    table.render(view, "nothing is taken out")
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        sync::{Arc, Mutex},
    };

    use proto::registry::v1::{RedactionPattern, RedactionSettings, ToolDefinition, ToolSettings};

    use super::*;
    use crate::cli::output::Format;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn args(input: String, config: Option<PathBuf>, team: Option<&str>) -> RedactArgs {
        RedactArgs { input, tool: None, result: false, config, team: team.map(str::to_owned) }
    }

    fn told(args: &RedactArgs, tool: Option<&Tool>, format: Format) -> Result<String, Error> {
        let written = Written::default();
        let mut output = Output::to(format, Box::new(written.clone()), Box::new(std::io::sink()));
        tried(args, tool, &mut output)?;
        let bytes = written.0.lock().unwrap().clone();
        Ok(String::from_utf8(bytes).unwrap())
    }

    fn file(folder: &Path, name: &str, content: &str) -> PathBuf {
        let path = folder.join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    #[test]
    fn what_is_stored_is_shown_with_what_was_taken_out_and_never_that_itself() {
        let folder = tempfile::tempdir().unwrap();
        let value =
            json!({"user": "x", "password": "hunter2-a", "note": "mail jane.doe@example.com"}).to_string();
        let input = format!("@{}", file(folder.path(), "value.json", &value).display());
        let text = told(&args(input.clone(), None, None), None, Format::Table).unwrap();
        for part in ["/password", "key_name", "/note", "email", "20", "\"user\": \"x\""] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
        assert!(!text.contains("hunter2") && !text.contains("jane"), "{text}");
        let text = told(&args(input, None, None), None, Format::Json).unwrap();
        let answer: Value = serde_json::from_str(&text).unwrap();
        let findings = answer["findings"].as_array().unwrap();
        assert!(findings.contains(&json!({"pointer": "/note", "rule": "email", "length": 20})), "{answer}");
        let log = format!("@{}", file(folder.path(), "x.log", "password=hunter2-b\nall is well").display());
        let text = told(&args(log, None, None), None, Format::Table).unwrap();
        assert!(
            text.starts_with("password=[redacted]\nall is well\n") && text.contains("named_secret"),
            "{text}"
        );
    }

    #[test]
    fn a_tools_schema_and_settings_and_a_teams_rules_hold() {
        let folder = tempfile::tempdir().unwrap();
        let value = json!({"pin": "1234", "seat": "S1", "note": "CASE-123456 B-77 a@b.com"}).to_string();
        let input = format!("@{}", file(folder.path(), "value.json", &value).display());
        let pattern = RedactionPattern { name: "badge".into(), pattern: r"B-\d{1,6}".into() };
        let redaction = RedactionSettings { keys: vec!["seat".into()], patterns: vec![pattern] };
        let definition = ToolDefinition {
            input_schema_json: r#"{"properties":{"pin":{"writeOnly":true}}}"#.into(),
            ..ToolDefinition::default()
        };
        let tool = Tool {
            definition: Some(definition),
            settings: Some(ToolSettings { redaction: Some(redaction), ..ToolSettings::default() }),
            ..Tool::default()
        };
        let config = "[redaction.teams.blue]\noff = [\"email\"]\npatterns = [{ name = \"case\", pattern = 'CASE-\\d{1,6}' }]\n";
        let config = file(folder.path(), "toolcrib.toml", config);
        let text = told(&args(input.clone(), Some(config), Some("blue")), Some(&tool), Format::Json).unwrap();
        let answer: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            answer["stored"],
            json!({"pin": "[redacted]", "seat": "[redacted]", "note": "[redacted] [redacted] a@b.com"})
        );
        let wrong =
            file(folder.path(), "wrong.toml", "[redaction]\npatterns = [{ name = \"x\", pattern = '(' }]\n");
        let refused = told(&args(input, Some(wrong), None), None, Format::Json).unwrap_err();
        assert!(
            matches!(&refused, Error::Usage(why) if why.contains("redaction.patterns[0].pattern")),
            "{refused:?}"
        );
    }

    #[test]
    fn what_is_no_file_is_refused() {
        for input in ["password=hunter2", "@/nowhere/at/all"] {
            assert!(matches!(
                told(&args(input.into(), None, None), None, Format::Json),
                Err(Error::Usage(_))
            ));
        }
    }
}
