//! The names most like a given one, for whoever misspelt it. Pure.

use std::collections::BTreeSet;

use crate::stem::stem;

/// Most names that are proposed.
const MOST: usize = 3;
/// Least likeness of a name that is proposed (Jaro-Winkler, 0 to 1).
const LIKENESS: f64 = 0.75;
/// Longest name that is compared, in bytes: the comparison takes the square of it.
const LONGEST: usize = 256;

/// Those of these names that are most like one, best first; none where none is like it. A tool of a server is also known
/// by the name it has there.
pub(crate) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Vec<String> {
    let wanted = name.to_lowercase();
    let wanted = &wanted[..wanted.floor_char_boundary(LONGEST)];
    let root = stem(wanted);
    let known: BTreeSet<&str> = known.filter(|known| known.len() <= LONGEST).collect();
    let likeness = |known: &str| {
        let last = known.rsplit('.').next().unwrap_or(known);
        let same_root = if stem(&known.to_lowercase()) == root { 1.0 } else { 0.0 };
        strsim::jaro_winkler(wanted, known).max(strsim::jaro_winkler(wanted, last)).max(same_root)
    };
    let scored = known.into_iter().map(|known| (likeness(known), known));
    let mut scored: Vec<(f64, &str)> = scored.filter(|(score, _)| *score >= LIKENESS).collect();
    scored.sort_by(|left, right| right.0.total_cmp(&left.0).then(left.1.cmp(right.1)));
    scored.into_iter().take(MOST).map(|(_, known)| known.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_and_another_form_of_the_word_find_it_and_nonsense_finds_none() {
        let known = ["search", "retrieve", "summarize", "time.get_current_time"];
        let find = |name: &str| nearest(name, known.into_iter());
        assert_eq!(find("serach")[0], "search");
        assert_eq!(find("Summarizing")[0], "summarize");
        assert_eq!(find("get_current_tme")[0], "time.get_current_time");
        assert!(find("zzzz").is_empty() && find("").is_empty());
        assert!(find(&"ü".repeat(100_000)).is_empty());
    }
}
