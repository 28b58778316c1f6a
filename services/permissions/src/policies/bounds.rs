//! How much a policy's text may hold, looked at before it is parsed: what is nested without end would exhaust the
//! stack of whoever parses, validates or evaluates it. Knows only as much of Cedar as it takes to skip texts and
//! comments.

use super::complaint::{Complaint, at};

/// Most bytes of a text.
pub(crate) const MAX_BYTES: usize = 16 * 1_024;
/// Most brackets within each other.
const MAX_DEPTH: usize = 32;
/// Most operators: each nests what stands before it.
const MAX_OPERATORS: usize = 256;
/// Most dots in a row, as in `context.arguments.texts`.
const MAX_STEPS: usize = 16;

/// What is counted up to a place of the text.
#[derive(Default)]
struct Count {
    depth: usize,
    operators: usize,
    steps: usize,
}

/// Refuses a text that holds more than can surely be handled.
pub(super) fn check(text: &str) -> Result<(), Complaint> {
    if text.len() > MAX_BYTES {
        let message = format!("the text has {} bytes; a policy may have {MAX_BYTES}", text.len());
        return Err(at(text, 0, message, "split it, or use sets".to_owned()));
    }
    let (mut count, mut place) = (Count::default(), 0);
    while let Some(rest) = text.get(place..).filter(|rest| !rest.is_empty()) {
        let length = token(rest);
        if let Some(message) = count.take(&rest[..length]) {
            let help = "say it with sets, such as [\"a\", \"b\"].contains(x), or split the policy".to_owned();
            return Err(at(text, place, message, help));
        }
        place += length;
    }
    Ok(())
}

impl Count {
    /// What is too much with this token.
    fn take(&mut self, token: &str) -> Option<String> {
        match token {
            "(" | "[" | "{" => self.depth += 1,
            ")" | "]" | "}" => self.depth = self.depth.saturating_sub(1),
            "&&" | "||" | "+" | "-" | "*" | "!" | "if" | "has" | "like" | "in" | "is" => self.operators += 1,
            _ => {}
        }
        match token {
            "." => self.steps += 1,
            _ if token.starts_with(|first: char| first.is_alphanumeric() || first == '_') => {}
            _ if token.starts_with(char::is_whitespace) || token.starts_with("//") => {}
            _ => self.steps = 0,
        }
        if self.depth > MAX_DEPTH {
            Some(format!("more than {MAX_DEPTH} brackets stand within each other"))
        } else if self.operators > MAX_OPERATORS {
            Some(format!("there are more than {MAX_OPERATORS} operators"))
        } else if self.steps > MAX_STEPS {
            Some(format!("there are more than {MAX_STEPS} steps in a row"))
        } else {
            None
        }
    }
}

/// Bytes of the token at the beginning of a text that is not empty.
fn token(text: &str) -> usize {
    let mut characters = text.char_indices();
    let Some((_, first)) = characters.next() else { return 0 };
    let until = |ends: fn(char) -> bool| {
        text.char_indices().skip(1).find(|&(_, next)| ends(next)).map_or(text.len(), |(end, _)| end)
    };
    match first {
        '"' => quoted(text),
        '/' if text.starts_with("//") => until(|next| next == '\n'),
        '&' if text.starts_with("&&") => 2,
        '|' if text.starts_with("||") => 2,
        _ if first.is_whitespace() => until(|next| !next.is_whitespace()),
        _ if first.is_alphanumeric() || first == '_' => {
            until(|next| !(next.is_alphanumeric() || next == '_'))
        }
        _ => first.len_utf8(),
    }
}

/// Bytes of a text in quotation marks.
fn quoted(text: &str) -> usize {
    let mut escaped = false;
    for (place, character) in text.char_indices().skip(1) {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return place + 1,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(body: &str) -> String {
        format!("forbid (principal, action, resource) when {{ {body} }};")
    }

    fn fault(body: &str) -> String {
        check(&of(body)).map_or_else(|complaint| complaint.message, |()| String::new())
    }

    #[test]
    fn what_nests_is_bounded_and_what_stands_in_texts_and_comments_is_not_counted() {
        assert_eq!(fault(&format!("{}1{}", "(".repeat(31), ")".repeat(31))), "");
        assert!(fault(&format!("{}1{}", "(".repeat(32), ")".repeat(32))).contains("32 brackets"));
        assert_eq!(fault(&vec!["true"; 257].join(" && ")), "");
        assert!(fault(&vec!["true"; 258].join(" || ")).contains("256 operators"));
        assert!(fault(&"if true then true else ".repeat(300)).contains("operators"));
        assert_eq!(fault(&format!("context{}", ".a".repeat(16))), "");
        assert!(fault(&format!("context{}", ".a".repeat(17))).contains("16 steps"));
        assert!(fault(&format!("context{}", " .\n// x\n a".repeat(17))).contains("16 steps"));
        let text = format!("\"{}\\\"{}\"", "(".repeat(50), "&& ".repeat(400));
        assert_eq!(fault(&format!("context.user == {text} // {}\n", "(".repeat(99))), "");
        assert_eq!(fault("\"open"), "", "what is not closed is for the parser to tell");
    }

    #[test]
    fn a_text_of_the_most_bytes_is_looked_at_and_one_more_is_not() {
        let padded = |size: usize| format!("{}{}", of("true"), " ".repeat(size - of("true").len()));
        assert!(check(&padded(MAX_BYTES)).is_ok());
        assert!(check(&padded(MAX_BYTES + 1)).is_err());
    }
}
