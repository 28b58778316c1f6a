//! Names of tools: valid, unique in an import, and the same at every import. No I/O.

use std::collections::BTreeMap;

use crate::check::{self, MAX_NAME};

/// Hex digits of a hash that tells names apart.
const HASH: usize = 8;

/// What a name is made of.
pub(super) struct Source<'a> {
    /// Empty: the document gives none.
    pub operation_id: &'a str,
    pub method: &'a str,
    pub path: &'a str,
}

/// `provider.operation` for each. Those that would share a name are told apart by a hash of method and path, all of
/// them, so that no order decides which is which.
pub(super) fn names(provider: &str, sources: &[Source<'_>]) -> Vec<String> {
    let plain: Vec<String> = sources.iter().map(|source| format!("{provider}.{}", source.word())).collect();
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for name in &plain {
        *counts.entry(short(name, MAX_NAME)).or_default() += 1;
    }
    let named = plain.iter().zip(sources).map(|(name, source)| {
        if counts.get(&short(name, MAX_NAME)).is_some_and(|count| *count > 1) {
            let hash = hash(&format!("{} {}", source.method, source.path));
            short(&format!("{}_{hash}", short(name, MAX_NAME - HASH - 1)), MAX_NAME)
        } else {
            short(name, MAX_NAME)
        }
    });
    named.collect()
}

impl Source<'_> {
    fn word(&self) -> String {
        let id = snake(self.operation_id);
        if !id.is_empty() {
            return id;
        }
        snake(&format!("{} {}", self.method.to_lowercase(), self.path))
    }
}

/// Lower case, its words joined by underscores; what stands in names already stays.
fn snake(text: &str) -> String {
    let mut name = String::new();
    let mut before = ' ';
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        let lower = letter.to_ascii_lowercase();
        let is_plain = u8::try_from(lower).is_ok_and(check::is_name_byte);
        let begins_word = letter.is_ascii_uppercase()
            && (before.is_ascii_lowercase()
                || before.is_ascii_digit()
                || (before.is_ascii_uppercase() && letters.peek().is_some_and(char::is_ascii_lowercase)));
        if (!is_plain || begins_word) && !name.is_empty() && !name.ends_with(['_', '.', '-']) {
            name.push('_');
        }
        if is_plain && !(lower == '_' && name.ends_with('_')) {
            name.push(lower);
        }
        before = letter;
    }
    name.trim_matches(['_', '.', '-']).to_owned()
}

/// The text, or its beginning and a hash of it where it is longer than this many bytes; of ASCII texts only.
pub(super) fn short(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let start: String = text.chars().take(most - HASH - 1).collect();
    format!("{start}_{}", hash(text))
}

fn hash(text: &str) -> String {
    types::digest_bytes(text.as_bytes()).chars().take(HASH).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(sources: &[(&str, &str, &str)]) -> Vec<String> {
        let sources: Vec<_> = sources
            .iter()
            .map(|(operation_id, method, path)| Source { operation_id, method, path })
            .collect();
        names("api", &sources)
    }

    #[test]
    fn names_are_valid_and_readable() {
        for (id, expected) in [
            ("repos/list-for-user", "api.repos_list-for-user"),
            ("getUserById", "api.get_user_by_id"),
            ("listHTTPServers2Now", "api.list_http_servers2_now"),
            ("Größe ändern!", "api.gr_e_ndern"),
            ("chat.postMessage", "api.chat.post_message"),
            ("__a__b__", "api.a_b"),
        ] {
            assert_eq!(named(&[(id, "GET", "/")]), [expected]);
        }
        assert_eq!(named(&[("", "GET", "/users/{userId}/x.json")]), ["api.get_users_user_id_x.json"]);
        assert_eq!(named(&[("", "GET", "/")]), ["api.get"]);
        assert_eq!(named(&[("ähm", "PUT", "/a")]), ["api.hm"]);
        assert_eq!(named(&[("äöü", "PUT", "/a")]), ["api.put_a"]);
    }

    #[test]
    fn names_that_collide_are_told_apart_in_any_order() {
        let (one, two) = (("getIt", "GET", "/a"), ("get_it", "GET", "/b"));
        let (there, back) = (named(&[one, two]), named(&[two, one]));
        assert_eq!((&there[0], &there[1]), (&back[1], &back[0]));
        assert_ne!(there[0], there[1]);
        assert!(there[0].starts_with("api.get_it_") && there[0].len() == "api.get_it_".len() + HASH);
    }

    #[test]
    fn long_names_are_cut_and_stay_apart() {
        let (long, other) = (format!("{}a", "x".repeat(200)), format!("{}b", "x".repeat(200)));
        let named = named(&[(&long, "GET", "/a"), (&other, "GET", "/a"), (&long, "GET", "/b")]);
        assert!(named.iter().all(|name| name.len() <= MAX_NAME), "{named:?}");
        assert_eq!(named.iter().collect::<std::collections::BTreeSet<_>>().len(), 3);
    }
}
