//! Measures how deep an expression nests, before it is parsed: the parser of CEL recurses some hundred
//! kilobytes of stack for each bracket and guards itself only for some of them, so that a thread of 2 MiB ends
//! at a dozen, and the process with it. Never parses, and refuses what it cannot follow.

/// Brackets within each other.
const MAX_DEPTH: usize = 8;
/// Operators and brackets in all, for chains nest as well: `a.a.a` is a member of a member.
const MAX_MARKS: usize = 512;

/// Refuses what nests too deep for the stack of any thread of ours.
pub(crate) fn check(text: &str) -> Result<(), String> {
    let bytes = text.as_bytes();
    let (mut at, mut depth, mut marks) = (0, 0_usize, 0_usize);
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' | b'\'' => {
                at = string_end(bytes, at)
                    .ok_or("has a text that does not end, or an unknown escape in it")?;
                continue;
            }
            b'/' if bytes.get(at + 1) == Some(&b'/') => {
                at += bytes[at..].iter().position(|&byte| byte == b'\n').unwrap_or(bytes.len() - at);
                continue;
            }
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        marks += usize::from(byte.is_ascii_punctuation() && byte != b'_');
        if depth > MAX_DEPTH {
            return Err(format!("nests brackets more than {MAX_DEPTH} deep"));
        }
        if marks > MAX_MARKS {
            return Err(format!("has more than {MAX_MARKS} operators and brackets"));
        }
        at += 1;
    }
    Ok(())
}

/// Where the text that begins here ends, by the lexis of the CEL specification; `None` when it does not.
fn string_end(bytes: &[u8], start: usize) -> Option<usize> {
    let quote = bytes[start];
    let is_raw = is_raw(&bytes[..start]);
    let is_triple = bytes[start..].starts_with(&[quote; 3]);
    let mut at = start + if is_triple { 3 } else { 1 };
    loop {
        match *bytes.get(at)? {
            b'\\' if !is_raw => at += escape(&bytes[at + 1..])?,
            b'\n' | b'\r' if !is_triple => return None,
            byte if byte == quote && !is_triple => return Some(at + 1),
            _ if is_triple && bytes[at..].starts_with(&[quote; 3]) => return Some(at + 3),
            _ => at += 1,
        }
    }
}

/// Whether a prefix makes the text raw: `r` or `br`, of any case, that is no end of a longer word.
fn is_raw(before: &[u8]) -> bool {
    let is_word = |byte: &&u8| byte.is_ascii_alphanumeric() || **byte == b'_';
    let length = before.iter().rev().take_while(is_word).count();
    let prefix = &before[before.len() - length..];
    prefix.eq_ignore_ascii_case(b"r") || prefix.eq_ignore_ascii_case(b"br")
}

/// Length of an escape, its backslash included; `rest` is what follows that.
fn escape(rest: &[u8]) -> Option<usize> {
    let digits = |range: std::ops::Range<usize>, is_digit: fn(&u8) -> bool| {
        let length = range.end;
        rest.get(range)?.iter().all(is_digit).then_some(length + 1)
    };
    match rest.first()? {
        b'a' | b'b' | b'f' | b'n' | b'r' | b't' | b'v' | b'\\' | b'?' | b'"' | b'\'' | b'`' => Some(2),
        b'x' | b'X' => digits(1..3, u8::is_ascii_hexdigit),
        b'u' => digits(1..5, u8::is_ascii_hexdigit),
        b'U' => digits(1..9, u8::is_ascii_hexdigit),
        b'0'..=b'3' => digits(1..3, |byte| matches!(byte, b'0'..=b'7')),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_count_outside_of_texts_and_comments_only() {
        let open = "(".repeat(9);
        for fine in [
            format!("'{open}'"),
            format!("\"\"\"{open}\"\n{open}\"\"\""),
            format!(r#""\"{open}\x28\u0028\050""#),
            format!("r'\\{open}'"),
            format!("a // {open}\n+ b"),
            "(((((((())))))))".to_owned(),
            "()".repeat(100),
        ] {
            assert_eq!(check(&fine), Ok(()), "{fine}");
        }
        for deep in [
            open.clone(),
            "[{(".repeat(3),
            format!("'))))))))' + {open}"),
            format!("'\\'))))))))' + {open}"),
            format!("r'\\' + {open}"),
            format!("// ))))))))\n{open}"),
            format!("for'\\'' + {open}"),
        ] {
            assert!(check(&deep).is_err_and(|wrong| wrong.contains("8 deep")), "{deep}");
        }
        assert!(check(&"a.".repeat(513)).is_err_and(|wrong| wrong.contains("512")));
    }

    #[test]
    fn texts_that_no_lexer_takes_are_refused() {
        for bad in ["'", "'\n'", "\"\"\"a\"\"", r"'\q'", r"'\x2'", r"'\400'", "'\\"] {
            assert!(check(bad).is_err_and(|wrong| wrong.contains("does not end")), "{bad}");
        }
    }
}
