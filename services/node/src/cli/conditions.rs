//! Conditions on arguments as people write and read them: `/path within /reports`, `/to one_of a@b.c,d@e.f`, `/n <= 5`.
//! What is written is what is shown. The server has the last word on what is valid.

use proto::permissions::v1::{Absent, ArgumentCondition, NumberRange, TextSet, argument_condition::Test};

/// For the help of whatever takes conditions.
pub const HELP: &str = "Conditions: JSON pointer, test, value
  /path within /reports,/tmp     a path in one of these folders
  /to one_of a@b.c,d@e.f         one of these texts; [\"a, b\",\"c\"] where one has a comma
  /url host api.example.com,*.b  a URL of one of these hosts, or below one
  /name matches [a-z]+           a text that the whole expression matches
  /n <= 5, /n >= 1, /n in 1..5   a number in a range
  /force is false                true or false
  /text max_length 200           characters of a text, or elements of a list
  /to/* one_of a,b               every element of a list
  /cc absent                     not there at all";

/// Reads one.
pub fn parse(text: &str) -> Result<ArgumentCondition, String> {
    let wrong = || format!("{text:?} is no condition; write one like: /path within /reports");
    let (pointer, rest) = text.trim().split_once(char::is_whitespace).ok_or_else(wrong)?;
    if !pointer.starts_with('/') {
        return Err(format!(
            "{pointer:?} is no JSON pointer; it begins with '/', such as /to or /options/depth"
        ));
    }
    let rest = rest.trim();
    let (test, value) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let value = value.trim();
    let number = |value: &str| value.trim().parse::<f64>().map_err(|_| format!("{value:?} is no number"));
    let bound = |min: Option<f64>, max: Option<f64>| Test::Range(NumberRange { min, max });
    if value.is_empty() && test != "absent" {
        return Err(wrong());
    }
    let test = match test {
        "within" => Test::Within(set(value)?),
        "one_of" => Test::OneOf(set(value)?),
        "host" => Test::UrlHost(set(value)?),
        "matches" => Test::Matches(value.to_owned()),
        "<=" => bound(None, Some(number(value)?)),
        ">=" => bound(Some(number(value)?), None),
        "in" => {
            let (min, max) =
                value.split_once("..").ok_or_else(|| format!("{value:?} is no range, such as 1..5"))?;
            bound(Some(number(min)?), Some(number(max)?))
        }
        "is" => Test::Is(value.parse().map_err(|_| format!("{value:?} is neither true nor false"))?),
        "max_length" => Test::MaxLength(value.parse().map_err(|_| format!("{value:?} is no length"))?),
        "absent" if value.is_empty() => Test::Absent(Absent {}),
        other => {
            return Err(format!(
                "{other:?} is no test; there are: within, one_of, host, matches, <=, >=, in, is, max_length, absent"
            ));
        }
    };
    Ok(ArgumentCondition { pointer: pointer.to_owned(), test: Some(test) })
}

fn set(text: &str) -> Result<TextSet, String> {
    let values = if text.starts_with('[') {
        serde_json::from_str(text).map_err(|_| format!("{text:?} is no JSON list of texts"))?
    } else {
        text.split(',').map(|value| value.trim().to_owned()).collect()
    };
    Ok(TextSet { values })
}

/// The same as it is written.
pub fn told(condition: &ArgumentCondition) -> String {
    let test = match &condition.test {
        None => "…".to_owned(),
        Some(Test::Within(set)) => format!("within {}", values(set)),
        Some(Test::OneOf(set)) => format!("one_of {}", values(set)),
        Some(Test::UrlHost(set)) => format!("host {}", values(set)),
        Some(Test::Matches(expression)) => format!("matches {expression}"),
        Some(Test::Range(NumberRange { min: Some(min), max: Some(max) })) => format!("in {min}..{max}"),
        Some(Test::Range(NumberRange { min: Some(min), max: None })) => format!(">= {min}"),
        Some(Test::Range(NumberRange { min: None, max: Some(max) })) => format!("<= {max}"),
        Some(Test::Range(NumberRange { min: None, max: None })) => "in …".to_owned(),
        Some(Test::Is(value)) => format!("is {value}"),
        Some(Test::MaxLength(most)) => format!("max_length {most}"),
        Some(Test::Absent(Absent {})) => "absent".to_owned(),
    };
    format!("{} {test}", condition.pointer)
}

fn values(set: &TextSet) -> String {
    let is_plain = |value: &String| !value.is_empty() && !value.contains(',') && value.trim() == value;
    if set.values.iter().all(is_plain) && !set.values.iter().any(|value| value.starts_with('[')) {
        return set.values.join(",");
    }
    serde_json::Value::from(set.values.clone()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_is_shown() {
        for text in [
            "/path within /reports,/tmp",
            "/to one_of a@b.c",
            r#"/to/* one_of ["a, b","c"]"#,
            "/url host api.example.com,*.example.org",
            "/name matches [a-z ]+",
            "/n <= 5",
            "/n >= -1.5",
            "/n in 1..5",
            "/force is false",
            "/text max_length 200",
            "/cc absent",
        ] {
            assert_eq!(told(&parse(text).unwrap()), text);
        }
        assert_eq!(told(&parse("  /to   one_of  a , b ").unwrap()), "/to one_of a,b");
        assert!(HELP.lines().skip(1).all(|line| line.trim().starts_with('/')));
    }

    #[test]
    fn what_makes_no_sense_says_what_would() {
        for (text, said) in [
            ("", "write one like"),
            ("/path", "write one like"),
            ("/path within", "write one like"),
            ("path within /reports", "begins with '/'"),
            ("/path below /reports", "there are: within"),
            ("/n <= many", "no number"),
            ("/n in 5", "no range"),
            ("/force is perhaps", "neither true nor false"),
            ("/text max_length x", "no length"),
            ("/cc absent x", "there are"),
            ("/to one_of [a]", "no JSON list"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(said), "{text:?}: {error}");
        }
    }
}
