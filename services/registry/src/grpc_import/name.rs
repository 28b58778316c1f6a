//! Names of the tools that methods become: the same at every import, and no two the same. Pure.

use std::collections::{BTreeMap, HashMap};

use prost_reflect::ServiceDescriptor;

/// Longest name of a tool.
const MAX_NAME: usize = 128;
/// Characters of a digest that tell two names apart.
const SUFFIX: usize = 8;

/// Names by method: `provider.service.method`, in lower case. The service stands with its package where the server
/// lists another one of the same short name; `listed` is every service that it has, whatever is imported.
pub(super) fn of_methods(
    provider: &str,
    listed: &[String],
    service: &ServiceDescriptor,
) -> HashMap<String, String> {
    let full = service.full_name();
    let short = |name: &str| name.rsplit('.').next().unwrap_or(name).to_ascii_lowercase();
    let is_only = listed.iter().all(|other| other == full || short(other) != short(full));
    let word = if is_only { short(full) } else { full.to_ascii_lowercase() };
    let mut spelled: BTreeMap<String, usize> = BTreeMap::new();
    for method in service.methods() {
        *spelled.entry(method.name().to_ascii_lowercase()).or_default() += 1;
    }
    let is_only_by_case = is_only_by_case(full, listed);
    let name = |method: &str| {
        let lower = method.to_ascii_lowercase();
        let plain = format!("{provider}.{word}.{lower}");
        // Names that differ in case alone all get a suffix, lest their order decides which is which.
        if plain.len() <= MAX_NAME && spelled.get(&lower) == Some(&1) && is_only_by_case {
            return plain;
        }
        let digest = types::digest_bytes(format!("{full}/{method}").as_bytes()).clone();
        let start: String = plain.chars().take(MAX_NAME - SUFFIX - 1).collect();
        format!("{start}-{}", digest.chars().take(SUFFIX).collect::<String>())
    };
    service.methods().map(|method| (method.name().to_owned(), name(method.name()))).collect()
}

fn is_only_by_case(full: &str, listed: &[String]) -> bool {
    listed.iter().all(|other| other == full || !other.eq_ignore_ascii_case(full))
}

/// A title for people: "`GetTool`" is "Get tool".
pub(super) fn title(method: &str) -> String {
    let mut title = String::new();
    let mut before: Option<char> = None;
    let mut letters = method.chars().peekable();
    while let Some(letter) = letters.next() {
        let begins = letter.is_uppercase() && before.is_some_and(|c| c.is_lowercase() || c.is_ascii_digit())
            || letter.is_uppercase()
                && before.is_some_and(char::is_uppercase)
                && letters.peek().is_some_and(|c| c.is_lowercase());
        let is_acronym = letter.is_uppercase() && letters.peek().is_some_and(|c| c.is_uppercase())
            || letter.is_uppercase() && before.is_some_and(char::is_uppercase) && !begins;
        if letter == '_' {
            title.push(' ');
        } else {
            if begins {
                title.push(' ');
            }
            if before.is_none() || is_acronym {
                title.push(letter);
            } else {
                title.extend(letter.to_lowercase());
            }
        }
        before = Some(letter);
    }
    title
}
