//! The help of `toolcrib` itself: commands in groups, examples, and client options only where they count.

use clap::CommandFactory;

use super::Cli;

/// The commands, by what people want to do.
const GROUPS: [(&str, &[&str]); 5] = [
    ("Run toolcrib", &["up", "serve", "migrate", "config"]),
    ("Use tools", &["tools", "servers", "credentials", "select", "call", "start", "batch"]),
    (
        "Learn from use",
        &["feedback", "recommend", "selections", "effectiveness", "patterns", "pins", "ranking"],
    ),
    ("Look back", &["executions", "metrics", "cache", "audit", "usage", "costs"]),
    (
        "Let agents in",
        &[
            "agents",
            "keys",
            "grants",
            "policies",
            "access",
            "approvals",
            "webhooks",
            "explain",
            "budget",
            "whoami",
            "health",
        ],
    ),
];

/// Commands that ask no running toolcrib.
const SERVER_SIDE: &[&str] = GROUPS[0].1;

const EXAMPLES: [(&str, &str); 5] = [
    ("toolcrib up", "start it here"),
    ("toolcrib tools list", "see what there is"),
    ("toolcrib select \"sum a column of a CSV file\"", "ask what fits"),
    ("toolcrib call python_sandbox code='print(6 * 7)'", "run it"),
    ("toolcrib audit trail --since 1h", "see what happened"),
];

/// The whole command.
pub fn command() -> clap::Command {
    let mut command = Cli::command().after_help(examples());
    let template = format!(
        "{{about}}\n\n{{usage-heading}} {{usage}}\n\n{}\n{}\n{{options}}{{after-help}}",
        groups(&command),
        bold("Options:")
    );
    let globals: Vec<_> =
        command.get_arguments().filter(|argument| argument.is_global_set()).cloned().collect();
    for name in SERVER_SIDE {
        let hidden = globals.iter().map(|argument| argument.clone().hide(true));
        command = command.mut_subcommand(name, |server| server.args(hidden));
    }
    command.help_template(template)
}

fn groups(command: &clap::Command) -> String {
    let mut lines = Vec::new();
    for (heading, names) in GROUPS {
        lines.push(bold(&format!("{heading}:")));
        for name in names {
            let about = command.find_subcommand(name).and_then(clap::Command::get_about);
            lines.push(format!("  {name:<13} {}", about.map(ToString::to_string).unwrap_or_default()));
        }
        lines.push(String::new());
    }
    lines.join("\n")
}

fn examples() -> String {
    let lines = EXAMPLES.map(|(line, what)| format!("  {line:<54} # {what}"));
    format!("{}\n{}", bold("Try:"), lines.join("\n"))
}

/// Bold and underlined as clap's own headings; clap drops it where no colours are wanted.
fn bold(text: &str) -> String {
    format!("\x1b[1m\x1b[4m{text}\x1b[0m")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn help_of(words: &[&str]) -> String {
        command().try_get_matches_from(words).unwrap_err().to_string()
    }

    #[test]
    fn the_command_line_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn every_command_is_in_a_group_with_its_about() {
        let grouped: Vec<_> = GROUPS.iter().flat_map(|(_, names)| names.iter().copied()).collect();
        let command = command();
        let mut known: Vec<_> = command.get_subcommands().map(clap::Command::get_name).collect();
        known.retain(|name| *name != "help");
        assert_eq!(grouped.len(), known.len());
        assert!(known.iter().all(|name| grouped.contains(name)), "{known:?}");
        let help = help_of(&["toolcrib", "--help"]);
        for subcommand in command.get_subcommands().filter(|each| each.get_name() != "help") {
            let about = subcommand.get_about().unwrap().to_string();
            assert!(help.contains(&about), "{about:?} is missing in\n{help}");
        }
    }

    #[test]
    fn client_options_are_told_where_they_count_and_work_on_both_sides() {
        assert!(help_of(&["toolcrib", "tools", "list", "--help"]).contains("--api-key-file"));
        for words in [&["toolcrib", "up", "--help"][..], &["toolcrib", "config", "check", "--help"]] {
            assert!(!help_of(words).contains("--api-key-file"), "{}", help_of(words));
        }
        for words in
            [["toolcrib", "-o", "json", "tools", "list"], ["toolcrib", "tools", "list", "-o", "json"]]
        {
            let matches = command().try_get_matches_from(words).unwrap();
            let cli = <Cli as clap::FromArgMatches>::from_arg_matches(&matches).unwrap();
            assert_eq!(cli.client.output, crate::cli::output::Format::Json);
        }
        let matches = command().try_get_matches_from(["toolcrib", "up", "--data", "/x"]).unwrap();
        assert!(<Cli as clap::FromArgMatches>::from_arg_matches(&matches).is_ok());
    }
}
