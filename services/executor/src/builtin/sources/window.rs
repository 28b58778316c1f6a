//! Which part of a file is wanted, by bytes or by lines, and how it is cut out of what there is. Must never read far
//! beyond what it gives.

use std::io::{self, BufRead, Read as _};

use serde_json::Value;

use crate::{builtin::path::wrong, outcome::ToolError};

/// Bytes that are given when the caller does not say.
const DEFAULT_MAX_BYTES: usize = 1_048_576;
/// Bytes that are read to find a line, or to come to an offset.
pub(crate) const MAX_SKIPPED: u64 = 64 << 20;

/// The part that is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    start: Start,
    max_bytes: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    /// So many bytes into the file.
    Offset(u64),
    /// This line, from 1, and at most so many.
    Line(u64, u64),
}

/// What was cut out.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Part {
    pub bytes: Vec<u8>,
    /// Whether the file goes on after it.
    pub truncated: bool,
    /// The first line, and how many there are, where lines were asked for.
    pub lines: Option<(u64, u64)>,
}

impl Window {
    pub(crate) fn of(arguments: &Value) -> Result<Self, ToolError> {
        let number = |name: &str| arguments.get(name).and_then(Value::as_u64);
        let by_lines = number("start_line").is_some() || number("line_count").is_some();
        if by_lines && number("offset").is_some() {
            return Err(wrong("offset", "counts bytes; give it, or start_line and line_count"));
        }
        let start = if by_lines {
            Start::Line(number("start_line").unwrap_or(1).max(1), number("line_count").unwrap_or(u64::MAX))
        } else {
            Start::Offset(number("offset").unwrap_or(0))
        };
        let max_bytes = number("max_bytes").and_then(|bytes| usize::try_from(bytes).ok());
        Ok(Self { start, max_bytes: max_bytes.unwrap_or(DEFAULT_MAX_BYTES) })
    }

    /// Bytes from the beginning of the file that are enough, where that can be told.
    pub(crate) fn reach(&self) -> Option<usize> {
        match self.start {
            Start::Offset(offset) => usize::try_from(offset).ok()?.checked_add(self.max_bytes),
            Start::Line(..) => None,
        }
    }

    /// Where a file may be entered without reading what stands before.
    pub(crate) fn seek(&self) -> Option<u64> {
        match self.start {
            Start::Offset(offset) => Some(offset),
            Start::Line(..) => None,
        }
    }

    /// Cuts it out of a file that stands at its beginning, or where `seek` said.
    pub(crate) fn cut(&self, mut file: impl BufRead, is_there: bool) -> io::Result<Part> {
        let lines = match self.start {
            Start::Offset(offset) => {
                if !is_there {
                    skip(&mut file, offset)?;
                }
                None
            }
            Start::Line(first, count) => {
                skip_lines(&mut file, first - 1)?;
                Some((first, count))
            }
        };
        let mut part = Part::default();
        match lines {
            None => {
                file.by_ref().take(self.max_bytes as u64).read_to_end(&mut part.bytes)?;
                part.truncated = !file.fill_buf()?.is_empty();
            }
            Some((first, count)) => {
                let mut taken = 0;
                while taken < count && part.bytes.len() < self.max_bytes {
                    let room = (self.max_bytes - part.bytes.len()) as u64;
                    if file.by_ref().take(room).read_until(b'\n', &mut part.bytes)? == 0 {
                        break;
                    }
                    taken += 1;
                }
                part.truncated = !file.fill_buf()?.is_empty();
                part.lines = Some((first, taken));
            }
        }
        Ok(part)
    }
}

fn skip(file: &mut impl BufRead, offset: u64) -> io::Result<()> {
    io::copy(&mut file.take(offset), &mut io::sink()).map(|_| ())
}

fn skip_lines(file: &mut impl BufRead, count: u64) -> io::Result<()> {
    let mut left = MAX_SKIPPED;
    for _ in 0..count {
        loop {
            let buffer = file.fill_buf()?;
            if buffer.is_empty() {
                return Ok(());
            }
            let end = buffer.iter().position(|byte| *byte == b'\n');
            let used = end.map_or(buffer.len(), |end| end + 1);
            file.consume(used);
            left = left.saturating_sub(used as u64);
            if left == 0 {
                let message =
                    format!("start_line lies more than {MAX_SKIPPED} bytes into it; give an offset");
                return Err(io::Error::other(message));
            }
            if end.is_some() {
                break;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn cut(arguments: &Value, file: &str) -> (String, bool, Option<(u64, u64)>) {
        let part = Window::of(arguments).unwrap().cut(file.as_bytes(), false).unwrap();
        (String::from_utf8(part.bytes).unwrap(), part.truncated, part.lines)
    }

    #[test]
    fn a_part_is_cut_by_bytes_or_by_lines() {
        let file = "one\ntwo\nthree";
        let all = || ("one\ntwo\nthree".to_owned(), false, None);
        assert_eq!(cut(&json!({}), file), all());
        assert_eq!(cut(&json!({"offset": 4, "max_bytes": 3}), file), ("two".into(), true, None));
        assert_eq!(cut(&json!({"offset": 99}), file), (String::new(), false, None));
        assert_eq!(cut(&json!({"start_line": 2}), file), ("two\nthree".into(), false, Some((2, 2))));
        assert_eq!(cut(&json!({"line_count": 1}), file), ("one\n".into(), true, Some((1, 1))));
        assert_eq!(cut(&json!({"start_line": 9}), file), (String::new(), false, Some((9, 0))));
        let both = json!({"start_line": 2, "line_count": 5, "max_bytes": 6});
        assert_eq!(cut(&both, file), ("two\nth".into(), true, Some((2, 2))));
        assert!(Window::of(&json!({"offset": 1, "start_line": 1})).is_err());
    }
}
