//! The Link header (RFC 8288, section 3): where the next page stands. Pure.

/// The target of the first link of the relation "next", as it stands in the header.
pub(super) fn next<'a>(fields: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    fields.into_iter().find_map(|field| {
        let mut rest = field;
        std::iter::from_fn(|| {
            let (link, after) = link(rest)?;
            rest = after;
            Some(link)
        })
        .find(|link| link.is_next)
        .map(|link| link.target)
    })
}

/// A link.
struct Link<'a> {
    target: &'a str,
    is_next: bool,
}

/// The first link of a list, and what follows it; `None` where there is none that can be read.
fn link(text: &str) -> Option<(Link<'_>, &str)> {
    let text = text.trim_start_matches([' ', '\t', ',']);
    let (target, mut rest) = text.strip_prefix('<')?.split_once('>')?;
    let (mut relations, mut has_anchor) = (None, false);
    while let Some(parameter) = blank(rest).strip_prefix(';') {
        let parameter = blank(parameter);
        let (name, after) =
            parameter.split_at(parameter.find([' ', '\t', '=', ';', ',']).unwrap_or(parameter.len()));
        let (value, after) = match blank(after).strip_prefix('=') {
            Some(after) => value(blank(after))?,
            None => (String::new(), after),
        };
        if name.eq_ignore_ascii_case("rel") {
            // The first one counts (section 3.3).
            relations = relations.or(Some(value));
        } else if name.eq_ignore_ascii_case("anchor") {
            has_anchor = true;
        }
        rest = after;
    }
    let relations = relations.unwrap_or_default();
    // With an anchor it says of another page what comes next (section 3.2).
    let is_next =
        !has_anchor && relations.split_ascii_whitespace().any(|one| one.eq_ignore_ascii_case("next"));
    Some((Link { target: target.trim(), is_next }, rest))
}

fn blank(text: &str) -> &str {
    text.trim_start_matches([' ', '\t'])
}

/// A token or quoted string (RFC 9110, section 5.6), and what follows it.
fn value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([';', ',']).unwrap_or(text.len());
        return Some((text[..end].trim_end().to_owned(), &text[end..]));
    };
    let (mut value, mut is_escaped) = (String::new(), false);
    for (at, c) in quoted.char_indices() {
        match c {
            '"' if !is_escaped => return Some((value, &quoted[at + 1..])),
            '\\' if !is_escaped => is_escaped = true,
            c => {
                value.push(c);
                is_escaped = false;
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_found_among_any_links() {
        for (field, expected) in [
            (
                "<https://e.com/?page=2>; rel=\"next\", <https://e.com/?page=9>; rel=\"last\"",
                "https://e.com/?page=2",
            ),
            ("<a>; rel=\"prev\", <b>; rel=\"next\"", "b"),
            ("<a,b;c>;rel=next", "a,b;c"),
            ("<a>; title=\"x, <z>; rel=\\\"next\\\"\"; rel=prev, <b>; rel=\"last Next\"", "b"),
            ("<a> ; REL = NEXT ; type=\"text/html\"", "a"),
            ("<a>; rel=prev; rel=next, , <b>; crossorigin; rel=\"x next y\"", "b"),
            ("<a>; rel=next; anchor=\"#x\", <b>; rel=next", "b"),
            ("</items?cursor=%2Ba%3D>; rel=\"next\"", "/items?cursor=%2Ba%3D"),
        ] {
            assert_eq!(next([field]), Some(expected), "{field}");
        }
        assert_eq!(next(["<a>; rel=prev", "<b>; rel=next"]), Some("b"));
        for none in [
            "",
            "next",
            "<a>",
            "<a>; rel=nextish",
            "<a; rel=next",
            "<a>; rel=\"next",
            "<a>; title=\"rel=next\"",
        ] {
            assert_eq!(next([none]), None, "{none}");
        }
    }
}
