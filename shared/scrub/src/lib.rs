//! Secrets in the words of others: finds them in whatever form a server is likely to repeat them, and takes them out.
//! Linear in the text. Does no I/O, and must never show a secret: nothing here has `Debug`.

mod form;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};

/// Shorter texts, in bytes, cannot be told from others that only look like them: they are left, and the registry
/// refuses to keep them.
const SHORTEST: usize = 6;
/// Least that a text must end with to be taken for the beginning of one, in bytes.
const LEAST_BEGUN: usize = 4;
/// Shortest line of a private key that is its own, in bytes; the last may be shorter.
const SHORTEST_LINE: usize = 16;

/// Every form of some secrets.
#[derive(Default)]
#[allow(missing_debug_implementations, reason = "is secret")]
pub struct Forms {
    forms: Vec<String>,
    /// `None`: there is nothing to look for.
    found: Option<AhoCorasick>,
}

impl Forms {
    /// The forms of these texts, none of which may be repeated.
    pub fn of<S: AsRef<str>>(secrets: impl IntoIterator<Item = S>) -> Self {
        let mut forms: Vec<String> =
            secrets.into_iter().flat_map(|secret| form::all(secret.as_ref())).collect();
        forms.sort();
        forms.dedup();
        // A table of all transitions of a long token would take megabytes. Building fails beyond 2^31 states only.
        let built = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .kind(Some(AhoCorasickKind::ContiguousNFA))
            .build(&forms)
            .ok();
        Self { found: built.filter(|_| !forms.is_empty()), forms }
    }

    /// Whether a text, or bytes with texts among them, hold a secret.
    pub fn is_in(&self, text: impl AsRef<[u8]>) -> bool {
        self.found.as_ref().is_some_and(|found| found.is_match(text.as_ref()))
    }

    /// The text with `mark` in the place of each.
    pub fn replace(&self, text: &str, mark: &str) -> String {
        match &self.found {
            Some(found) => found.replace_all(text, &vec![mark; self.forms.len()]),
            None => text.to_owned(),
        }
    }

    /// Where the beginning of a secret stands with which a text ends, in bytes: somebody else may have cut it there.
    /// An ellipsis and spaces after it do not count.
    pub fn begun(&self, text: &str) -> Option<usize> {
        let whole = text.trim_end_matches(['…', '.', ' ']);
        let begun = |form: &String| {
            let ends = (LEAST_BEGUN..form.len()).rev().filter(|end| form.is_char_boundary(*end));
            ends.map(|end| &form[..end]).find(|begun| whole.ends_with(begun)).map(str::len)
        };
        self.forms.iter().filter_map(begun).max().map(|length| whole.len() - length)
    }

    /// The text with `mark` in the place of each, and of the beginning of one with which it ends.
    pub fn replace_cut(&self, text: &str, mark: &str) -> String {
        let mut text = self.replace(text, mark);
        if let Some(start) = self.begun(&text) {
            text.replace_range(start.., mark);
        }
        text
    }
}

/// What is secret of a user and a password, as HTTP Basic carries them (RFC 7617).
pub fn basic(user: &str, password: &str) -> Vec<String> {
    let mut secrets = vec![password.to_owned(), format!("{user}:{password}")];
    // Where the password says little or nothing, the user is the key.
    if password.len() < SHORTEST {
        secrets.push(user.to_owned());
    }
    secrets
}

/// What is secret of a private key in PEM (RFC 7468): any line of it but its first and last, which are the same in all
/// keys.
pub fn private_key(pem: &str) -> Vec<String> {
    let lines = pem.lines().map(str::trim);
    lines
        .filter(|line| line.len() >= SHORTEST_LINE && !line.starts_with("-----"))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests;
