//! Names that a model API takes, each made of the tool's name alone, so that it is the same in every export; and no two
//! tools' names become one. No I/O.

/// Hexadecimal digits that tell names apart which had to be changed beyond recognition: 48 bits.
const DIGITS: usize = 12;

/// The name for an API that takes `A-Za-z0-9_-`, at most so many characters.
///
/// A name without a dot stays as it is, and a dot becomes two underscores. Where that could be read in two ways, or is
/// too long, the name is cut and ends in `_X` and a part of its SHA-256 in capitals, which no tool's own name has.
pub(super) fn exported(name: &str, most: usize) -> String {
    let is_ambiguous = ["__", "._", "_."].iter().any(|pair| name.contains(pair));
    let dotless = name.replace('.', "__");
    if !is_ambiguous && dotless.len() <= most {
        return dotless;
    }
    let digits = types::digest_bytes(name.as_bytes())[..DIGITS].to_uppercase();
    let kept: String = name.replace('.', "_").chars().take(most - DIGITS - 2).collect();
    format!("{kept}_X{digits}")
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn is_valid(name: &str, most: usize) -> bool {
        (1..=most).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
    }

    #[test]
    fn names_stay_readable() {
        for (name, expected) in [
            ("http_request", "http_request"),
            ("time.convert_time", "time__convert_time"),
            ("a-b.c.d", "a-b__c__d"),
        ] {
            assert_eq!(exported(name, 64), expected);
        }
        let long = format!("server.{}", "n".repeat(100));
        assert!(exported(&long, 64).starts_with("server_nnn") && exported(&long, 64).len() == 64);
        assert_eq!(exported(&long, 128), format!("server__{}", "n".repeat(100)));
    }

    /// Names that are meant to collide: of few characters, around the limits, and what others are exported as.
    #[test]
    fn no_two_names_become_one_and_all_are_valid() {
        const LETTERS: [&str; 7] = ["a", "b", "_", "__", ".", "-", "x0"];
        let mut state = 20_261_123_u64;
        let mut next = |most: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(state >> 33).unwrap() % most
        };
        for most in [64, 128] {
            let mut seen: HashMap<String, String> = HashMap::new();
            for round in 0..10_000 {
                let length = if round % 3 == 0 { most - 4 + next(8) } else { 1 + next(8) };
                let mut name = String::new();
                while name.len() < length {
                    name.push_str(LETTERS[next(LETTERS.len())]);
                }
                name.truncate(128);
                for name in [name.clone(), exported(&name, most).to_lowercase()] {
                    let made = exported(&name, most);
                    assert!(is_valid(&made, most), "{name} becomes {made}");
                    assert_eq!(made, exported(&name, most));
                    let other = seen.insert(made.clone(), name.clone());
                    assert!(
                        other.as_ref().is_none_or(|other| *other == name),
                        "{name}, {other:?} and {made}"
                    );
                }
            }
            assert!(seen.len() > 8_000, "{}", seen.len());
        }
    }
}
