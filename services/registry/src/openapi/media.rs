//! Media types (RFC 9110, section 8.3.1), as far as bodies and answers are told apart by them. No I/O.

use crate::definition::HttpBodyFormat;

/// Without parameters, in lower case.
fn essence(media_type: &str) -> String {
    media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Whether it is JSON: application/json, or a structured suffix (RFC 6839, section 3.1).
pub(super) fn is_json(media_type: &str) -> bool {
    let essence = essence(media_type);
    essence == "application/json" || essence == "text/json" || essence.ends_with("+json")
}

/// How a body of this type is written, and how much it is preferred: less is better.
pub(super) fn body_format(media_type: &str) -> (u8, HttpBodyFormat) {
    let essence = essence(media_type);
    match essence.as_str() {
        "application/json" => (0, HttpBodyFormat::Json),
        _ if is_json(media_type) => (1, HttpBodyFormat::Json),
        "*/*" | "application/*" => (2, HttpBodyFormat::Json),
        "application/x-www-form-urlencoded" => (3, HttpBodyFormat::Form),
        "multipart/form-data" => (4, HttpBodyFormat::Multipart),
        "text/plain" => (5, HttpBodyFormat::Text),
        _ if essence.starts_with("text/") => (6, HttpBodyFormat::Text),
        _ if essence.ends_with("/xml") || essence.ends_with("+xml") || essence.ends_with("yaml") => {
            (7, HttpBodyFormat::Text)
        }
        "application/octet-stream" => (8, HttpBodyFormat::Base64),
        _ => (9, HttpBodyFormat::Base64),
    }
}

/// The content-type to send; empty: that of the format.
pub(super) fn content_type(media_type: &str, format: HttpBodyFormat) -> String {
    let usual = match format {
        HttpBodyFormat::Json => "application/json",
        HttpBodyFormat::Form => "application/x-www-form-urlencoded",
        HttpBodyFormat::Multipart => "multipart/form-data",
        HttpBodyFormat::Text => "text/plain",
        HttpBodyFormat::Base64 => "application/octet-stream",
    };
    let is_printable = media_type.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    if essence(media_type) == usual || media_type.contains('*') || !is_printable || media_type.len() > 200 {
        return String::new();
    }
    media_type.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_type_is_chosen() {
        let best = |types: &[&'static str]| {
            types
                .iter()
                .copied()
                .min_by_key(|name| body_format(name).0)
                .map(|name| (name, body_format(name).1))
        };
        let all = ["image/png", "text/csv", "multipart/form-data", "application/x-www-form-urlencoded"];
        assert_eq!(best(&all), Some(("application/x-www-form-urlencoded", HttpBodyFormat::Form)));
        assert_eq!(best(&all[..3]), Some(("multipart/form-data", HttpBodyFormat::Multipart)));
        assert_eq!(best(&all[..2]), Some(("text/csv", HttpBodyFormat::Text)));
        assert_eq!(best(&all[..1]), Some(("image/png", HttpBodyFormat::Base64)));
        let json = ["application/vnd.api+json; v=1", "Application/JSON; charset=utf-8"];
        assert_eq!(best(&json), Some((json[1], HttpBodyFormat::Json)));
    }

    #[test]
    fn only_unusual_types_are_sent() {
        assert_eq!(content_type("application/json; charset=utf-8", HttpBodyFormat::Json), "");
        assert_eq!(
            content_type("application/merge-patch+json", HttpBodyFormat::Json),
            "application/merge-patch+json"
        );
        assert_eq!(content_type("image/*", HttpBodyFormat::Base64), "");
        assert_eq!(content_type("text/csv", HttpBodyFormat::Text), "text/csv");
    }
}
