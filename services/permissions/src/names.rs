//! The shapes of names and amounts that people choose. Checked before anything is stored.

use crate::Error;

/// Most characters of an agent's or a team's name.
const MAX_NAME: usize = 63;
/// Most characters of a tool's name.
const MAX_TOOL: usize = 128;
/// Most characters of a specialization.
const MAX_SPECIALIZATION: usize = 64;
/// Most characters of a digest.
const MAX_DIGEST: usize = 128;
/// Largest amount of money: a million dollars, in millionths.
const MAX_MICRO_USD: i64 = 1_000_000_000_000;

/// Checks the name of an agent or a team.
pub(crate) fn name(field: &str, text: &str) -> Result<(), Error> {
    shaped(field, text, MAX_NAME)
}

/// Checks the name of a tool.
pub(crate) fn tool(field: &str, text: &str) -> Result<(), Error> {
    shaped(field, text, MAX_TOOL)
}

/// Checks a specialization, which may be empty.
pub(crate) fn specialization(field: &str, text: &str) -> Result<(), Error> {
    let long = text.chars().count() > MAX_SPECIALIZATION;
    if long || text.trim() != text || text.chars().any(|character| character.is_control() || character == '"')
    {
        let description = format!(
            "must have at most {MAX_SPECIALIZATION} characters, no quotation marks and no space at its ends"
        );
        return Err(Error::invalid(field, description));
    }
    Ok(())
}

/// Checks a text for people, which may be empty.
pub(crate) fn text(field: &str, text: &str, most: usize) -> Result<(), Error> {
    if text.chars().count() > most || text.chars().any(char::is_control) {
        let description =
            format!("must have at most {most} characters, and no line breaks or control characters");
        return Err(Error::invalid(field, description));
    }
    Ok(())
}

/// Checks an amount of money in millionths of a US dollar: what may be added up without end.
pub(crate) fn cost(field: &str, micro_usd: i64) -> Result<(), Error> {
    if !(0..=MAX_MICRO_USD).contains(&micro_usd) {
        let description =
            format!("is {micro_usd}; it must be 0 to {MAX_MICRO_USD} millionths of a US dollar");
        return Err(Error::invalid(field, description));
    }
    Ok(())
}

/// Checks a digest that is kept to compare.
pub(crate) fn digest(field: &str, text: &str) -> Result<(), Error> {
    if text.len() > MAX_DIGEST {
        return Err(Error::invalid(field, format!("has more than {MAX_DIGEST} characters")));
    }
    Ok(())
}

fn shaped(field: &str, text: &str, most: usize) -> Result<(), Error> {
    let known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-.".contains(&byte);
    if text.is_empty() || text.len() > most || !text.bytes().all(known) {
        let description = format!("must be 1 to {most} characters of a-z, 0-9, '_', '-' and '.'");
        return Err(Error::invalid(field, description));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_one_shape() {
        for right in ["a", "scout-1", "brave_web_search", "server.tool", &"x".repeat(63)] {
            name("f", right).unwrap();
            tool("f", right).unwrap();
        }
        for wrong in ["", "Scout", "a b", "a/b", "é", "a\n", &"x".repeat(129)] {
            assert!(name("f", wrong).is_err() && tool("f", wrong).is_err(), "{wrong:?}");
        }
        assert!(name("f", &"x".repeat(64)).is_err());
        tool("f", &"x".repeat(128)).unwrap();
    }

    #[test]
    fn a_specialization_is_free_text_that_can_stand_in_quotation_marks() {
        for right in ["", "Technical Executor", "Forscherin für Öl"] {
            specialization("f", right).unwrap();
        }
        for wrong in [" x", "x ", "a\"b", "a\nb", &"x".repeat(65)] {
            assert!(specialization("f", wrong).is_err(), "{wrong:?}");
        }
    }
}
