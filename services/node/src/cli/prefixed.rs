//! A credential with what stands before it at its place, as arguments say it: `NAME`, or `'Bearer {NAME}'`. Must never
//! guess which part of a text is the name.

/// A credential, as an argument names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefixed {
    /// Its name.
    pub name: String,
    /// What stands before it, such as "Bearer "; often nothing.
    pub prefix: String,
}

impl Prefixed {
    /// Reads it. The error says what is missing.
    pub fn parse(text: &str) -> Result<Self, String> {
        let whole = |name: &str| Self { name: name.to_owned(), prefix: String::new() };
        if !text.contains(['{', '}']) {
            return if text.is_empty() || text.contains(char::is_whitespace) {
                Err(format!(
                    "{text:?} is not the name of a credential; with something before it: 'Bearer {{NAME}}'"
                ))
            } else {
                Ok(whole(text))
            };
        }
        let parts = text.strip_suffix('}').and_then(|text| text.split_once('{'));
        match parts
            .filter(|(prefix, name)| !name.is_empty() && !format!("{prefix}{name}").contains(['{', '}']))
        {
            Some((prefix, name)) => Ok(Self { prefix: prefix.to_owned(), ..whole(name) }),
            None => Err(format!(
                "{text:?} is not PREFIX{{NAME}}, such as 'Bearer {{shop-key}}', with nothing after it"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stands_alone_or_in_braces_after_its_prefix() {
        let parsed = |text: &str| Prefixed::parse(text).map(|parsed| (parsed.prefix, parsed.name));
        let pair = |prefix: &str, name: &str| Ok((prefix.to_owned(), name.to_owned()));
        assert_eq!(parsed("shop-key"), pair("", "shop-key"));
        assert_eq!(parsed("Bearer {shop-key}"), pair("Bearer ", "shop-key"));
        assert_eq!(parsed("key={shop-key}"), pair("key=", "shop-key"));
        assert_eq!(parsed("{shop-key}"), pair("", "shop-key"));
        for bad in ["", "Bearer shop-key", "Bearer {}", "{a} b", "a}", "{a", "{{a}}", "{a}{b}"] {
            assert!(parsed(bad).unwrap_err().contains("Bearer {"), "{bad}");
        }
    }
}
