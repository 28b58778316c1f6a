//! Looking at bytes: classes of bytes, runs of them, and where a word may begin. In tests every byte that is looked at is
//! counted, so that they can hold the work to the length of the text. Must never look at a byte without counting it.

use std::cell::Cell;

/// A set of bytes.
pub(crate) struct Class([bool; 256]);

impl Class {
    /// From a list of bytes and ranges, such as `A-Za-z0-9_-`; a dash at either end is itself.
    pub(crate) const fn of(list: &[u8]) -> Self {
        let (mut set, mut at) = ([false; 256], 0);
        while at < list.len() {
            let ranged = at + 2 < list.len() && list[at + 1] == b'-';
            let (mut byte, last) = (list[at] as usize, if ranged { list[at + 2] } else { list[at] } as usize);
            while byte <= last {
                set[byte] = true;
                byte += 1;
            }
            at += if ranged { 3 } else { 1 };
        }
        Self(set)
    }

    /// Every byte but these.
    pub(crate) const fn but(list: &[u8]) -> Self {
        let Self(mut set) = Self::of(list);
        let mut at = 0;
        while at < 256 {
            set[at] = !set[at];
            at += 1;
        }
        Self(set)
    }

    pub(crate) const fn has(&self, byte: u8) -> bool {
        self.0[byte as usize]
    }
}

pub(crate) static WORD: Class = Class::of(b"A-Za-z0-9_");
pub(crate) static ALNUM: Class = Class::of(b"A-Za-z0-9");
pub(crate) static DIGIT: Class = Class::of(b"0-9");
pub(crate) static HEX: Class = Class::of(b"0-9a-fA-F");
/// RFC 4648, sections 4 and 5, without padding.
pub(crate) static BASE64: Class = Class::of(b"A-Za-z0-9+/_-");
/// RFC 4648, section 5, without padding.
pub(crate) static BASE64_URL: Class = Class::of(b"A-Za-z0-9_-");

/// A text under examination.
pub(crate) struct Look<'a> {
    pub bytes: &'a [u8],
    work: Cell<usize>,
}

impl<'a> Look<'a> {
    pub(crate) fn at_text(text: &'a str) -> Self {
        Self { bytes: text.as_bytes(), work: Cell::new(0) }
    }

    /// Bytes looked at so far.
    #[cfg(test)]
    pub(crate) fn work(&self) -> usize {
        self.work.get()
    }

    /// Counts bytes that are looked at without the functions below.
    #[inline]
    pub(crate) fn worked(&self, bytes: usize) {
        if cfg!(test) {
            self.work.set(self.work.get() + bytes);
        }
    }

    /// The byte at a place; 0 beyond the end.
    pub(crate) fn at(&self, place: usize) -> u8 {
        self.worked(1);
        self.bytes.get(place).copied().unwrap_or(0)
    }

    /// The byte before a place; 0 at the beginning.
    pub(crate) fn before(&self, place: usize) -> u8 {
        if place == 0 { 0 } else { self.at(place - 1) }
    }

    /// Where the bytes of a class that begin here end, at most so many.
    pub(crate) fn run(&self, from: usize, class: &Class, most: usize) -> usize {
        let rest = &self.bytes[from.min(self.bytes.len())..];
        let length = rest.iter().take(most).take_while(|byte| class.has(**byte)).count();
        self.worked(length + 1);
        from + length
    }

    /// Where the bytes of a class that end before a place begin, at most so many.
    pub(crate) fn back(&self, to: usize, class: &Class, most: usize) -> usize {
        let length = self.bytes[..to].iter().rev().take(most).take_while(|byte| class.has(**byte)).count();
        self.worked(length + 1);
        to - length
    }

    /// Whether these bytes stand here, in any case of ASCII.
    pub(crate) fn says(&self, from: usize, word: &str) -> bool {
        self.worked(word.len());
        self.bytes.get(from..from + word.len()).is_some_and(|here| here.eq_ignore_ascii_case(word.as_bytes()))
    }

    /// Whether a word may begin here: after anything but a letter, a digit or `_`, and after what only looks like one,
    /// the end of an escape of JSON (`\n`), of a URL (`%3D`) or of a terminal's colour.
    pub(crate) fn opens(&self, place: usize) -> bool {
        if !WORD.has(self.before(place)) {
            return true;
        }
        self.worked(8);
        let before = &self.bytes[place.saturating_sub(8)..place];
        let is_hex = |bytes: &[u8]| bytes.iter().all(|byte| HEX.has(*byte));
        match before {
            [.., b'\\', b'n' | b'r' | b't' | b'b' | b'f'] => true,
            [.., b'%', a, b] => is_hex(&[*a, *b]),
            [.., b'\\', b'u', a, b, c, d] => is_hex(&[*a, *b, *c, *d]),
            [.., b'm'] => before.contains(&0x1b),
            _ => false,
        }
    }

    /// Whether a word may end before this place.
    pub(crate) fn closes(&self, place: usize) -> bool {
        !WORD.has(self.at(place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_hold_what_they_name() {
        let class = Class::of(b"a-c_-");
        assert!(b"abc_-".iter().all(|byte| class.has(*byte)) && !class.has(b'd') && !class.has(b'`'));
        assert!(!Class::but(b"a-c").has(b'b') && Class::but(b"a-c").has(b'd'));
    }

    #[test]
    fn a_word_begins_after_an_escape_too() {
        let opens = |before: &str| Look::at_text(before).opens(before.len());
        for before in ["", " ", "\"", "\\n", "a%3D", "\\u0026", "\u{1b}[32m", "é"] {
            assert!(opens(before), "{before:?}");
        }
        for before in ["a", "_", "9", "n", "%3", "m", "3D"] {
            assert!(!opens(before), "{before:?}");
        }
    }
}
