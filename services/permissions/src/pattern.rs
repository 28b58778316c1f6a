//! The names by which a grant may mean a tool besides its own: "*", and "a.*" and "a.b.*" of a.b.c. Pure.

use crate::{Error, names};

/// Whether a grant's tool is a pattern.
pub(crate) fn is_pattern(tool: &str) -> bool {
    tool == "*" || tool.ends_with(".*")
}

/// What the names of the tools begin with that a pattern means; `None` of a tool's own name.
pub(crate) fn prefix(tool: &str) -> Option<&str> {
    is_pattern(tool).then(|| tool.trim_end_matches('*'))
}

/// The patterns that mean a tool, the widest first.
pub(crate) fn groups(tool: &str) -> impl Iterator<Item = String> {
    let prefixes = tool.match_indices('.').map(|(dot, _)| format!("{}.*", &tool[..dot]));
    std::iter::once("*".to_owned()).chain(prefixes)
}

/// Checks a tool's name or a pattern.
pub(crate) fn check(field: &str, tool: &str) -> Result<(), Error> {
    let shaped = match prefix(tool) {
        Some("") => return Ok(()),
        Some(prefix) => names::tool(field, prefix.strip_suffix('.').unwrap_or(prefix)),
        None => names::tool(field, tool),
    };
    shaped.map_err(|_| {
        let description =
            "must be a tool's name (a-z, 0-9, '_', '-', '.'), \"PREFIX.*\" for all below it, or \"*\"";
        Error::invalid(field, description)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_is_meant_by_its_prefixes_and_by_the_star_alone() {
        let of = |tool| groups(tool).collect::<Vec<_>>();
        assert_eq!(of("a.b.c"), ["*", "a.*", "a.b.*"]);
        assert_eq!(of("abc"), ["*"]);
        assert_eq!(of("a..b"), ["*", "a.*", "a..*"]);
        for (pattern, expected) in
            [("*", Some("")), ("a.*", Some("a.")), ("a.b.*", Some("a.b.")), ("a*", None), ("a", None)]
        {
            assert_eq!(prefix(pattern), expected, "{pattern}");
        }
    }

    #[test]
    fn a_pattern_is_a_prefix_of_whole_steps() {
        for right in ["*", "a", "a.b", "a.*", "a.b.*"] {
            check("f", right).unwrap();
        }
        for wrong in ["", "a*", "*.a", "a.*.b", ".*", "**", "a.**", "A.*", "a b.*", "a/*"] {
            assert!(check("f", wrong).is_err(), "{wrong:?}");
        }
    }
}
