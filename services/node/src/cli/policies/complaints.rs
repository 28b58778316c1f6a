//! What is wrong with a policy, shown at its place: the line of the file, and a caret under the column.

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::cli::human;

/// Most characters of a line that are shown.
const MAX_SHOWN: usize = 100;

/// The refusal with the lines of the text that it speaks of. Any other Status stays as it is.
pub fn pointed(status: Status, file: &str, text: &str) -> Status {
    let details = status.get_error_details();
    let violations = details.bad_request().map(|bad| bad.field_violations.clone()).unwrap_or_default();
    let places: Vec<_> = violations.iter().map(|each| place(&each.description)).collect();
    if status.code() != Code::InvalidArgument || places.iter().all(Option::is_none) {
        return status;
    }
    let mut pointed = ErrorDetails::new();
    if let Some(info) = details.error_info() {
        pointed.set_error_info(info.reason.clone(), info.domain.clone(), info.metadata.clone());
    }
    for (violation, place) in violations.iter().zip(places) {
        match place {
            Some((line, column, what)) => {
                let shown = shown(text, line, column).unwrap_or_default();
                pointed
                    .add_bad_request_violation(format!("{file}:{line}:{column}"), format!("{what}{shown}"));
            }
            None => {
                pointed.add_bad_request_violation(violation.field.clone(), violation.description.clone());
            }
        }
    }
    Status::with_error_details(status.code(), "the policy is not valid; nothing was changed", pointed)
}

/// The place that a description begins with, as in "line 3, column 5: …".
fn place(description: &str) -> Option<(usize, usize, &str)> {
    let (place, what) = description.split_once(": ")?;
    let (line, column) = place.strip_prefix("line ")?.split_once(", column ")?;
    Some((line.parse().ok()?, column.parse().ok()?, what))
}

/// The line, and the caret below it; of a long line what stands around the column.
fn shown(text: &str, line: usize, column: usize) -> Option<String> {
    let whole: Vec<char> = text.lines().nth(line.checked_sub(1)?)?.chars().collect();
    let at = column.checked_sub(1)?.min(whole.len());
    let from = if whole.len() <= MAX_SHOWN { 0 } else { at.saturating_sub(MAX_SHOWN / 2) };
    let part: String =
        whole.iter().skip(from).take(MAX_SHOWN).map(|&c| if c == '\t' { ' ' } else { c }).collect();
    let before: String = part.chars().take(at - from).collect();
    let indent = human::visible(&before).chars().count();
    let gutter = " ".repeat(line.to_string().len());
    Some(format!("\n      {line} | {}\n      {gutter} | {}^", human::visible(&part), " ".repeat(indent)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{error::Error, output::Style};

    fn refused(descriptions: &[&str]) -> Status {
        let mut details = ErrorDetails::new();
        details.set_error_info("INVALID_REQUEST", "toolcrib", std::collections::HashMap::new());
        for description in descriptions {
            details.add_bad_request_violation("text", *description);
        }
        Status::with_error_details(Code::InvalidArgument, "policy \"p\" is not valid", details)
    }

    #[test]
    fn a_complaint_stands_under_the_line_that_it_is_about() {
        let text = "forbid (principal, action, resource)\nwhen {\n\tcontext.grnat.readOnly\n};\n";
        let status = refused(&["line 3, column 2: attribute `grnat` is not there; did you mean `grant`?"]);
        let report =
            Error::from(pointed(status, "p.cedar", text)).report(&crate::cli::error::Context::default());
        let told = report.unwrap().to_text(Style { colour: false });
        assert_eq!(
            told,
            "error: the policy is not valid; nothing was changed\n  \
               reason  INVALID_REQUEST (InvalidArgument)\n  \
               wrong   p.cedar:3:2: attribute `grnat` is not there; did you mean `grant`?\n      \
                   3 |  context.grnat.readOnly\n        \
                     |  ^"
        );
    }

    #[test]
    fn a_long_line_is_cut_around_the_column_and_another_refusal_stays_as_it_is() {
        let text = format!("{}X{}", "a".repeat(300), "b".repeat(300));
        let lines = shown(&text, 1, 301).unwrap();
        let [_, line, caret] = lines.lines().collect::<Vec<_>>()[..] else { panic!("{lines}") };
        assert_eq!(line.find('X'), caret.find('^'), "{lines}");
        assert!(line.len() < 120);
        assert_eq!(shown("a", 7, 1), None);
        assert!(shown("", 1, 1).is_none_or(|lines| lines.contains('^')));
        let other = refused(&["must be 1 to 63 characters"]);
        assert_eq!(pointed(other.clone(), "f", "").message(), other.message());
        assert_eq!(pointed(Status::not_found("x"), "f", "").message(), "x");
    }
}
