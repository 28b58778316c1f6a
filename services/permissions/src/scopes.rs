//! Scopes as words: how they are kept, and how tokens bring them. What is not known counts for nothing, and never for
//! everything.

use types::Scope;

/// The scopes that a key is kept with; none mean everything. `None`: it has some, and none is known here.
pub(crate) fn kept(words: &[String]) -> Option<Vec<Scope>> {
    let scopes = known(words.iter().map(String::as_str));
    (words.is_empty() || !scopes.is_empty()).then_some(scopes)
}

/// The scopes among some words, in order and each once.
pub(crate) fn known<'a>(words: impl Iterator<Item = &'a str>) -> Vec<Scope> {
    let mut scopes: Vec<Scope> = words.filter_map(|word| word.parse().ok()).collect();
    scopes.sort_unstable();
    scopes.dedup();
    scopes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_another_version_never_open_everything() {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        assert_eq!(kept(&[]), Some(vec![]));
        assert_eq!(kept(&words(&["plans_write"])), None);
        let some = words(&["tools_call", "plans_write", "tools_read", "tools_call"]);
        assert_eq!(kept(&some), Some(vec![Scope::ToolsRead, Scope::ToolsCall]));
    }
}
