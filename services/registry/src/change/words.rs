//! Keywords of JSON Schema that say something to readers and restrict nothing.

/// Whether a keyword restricts nothing (JSON Schema Validation 2020-12, sections 8 and 9), or is an extension.
/// `default` is not one of them: a call that leaves an argument out means it.
pub(crate) fn are(keyword: &str) -> bool {
    matches!(
        keyword,
        "title"
            | "description"
            | "examples"
            | "example"
            | "deprecated"
            | "readOnly"
            | "writeOnly"
            | "$comment"
    ) || keyword.starts_with("x-")
}
