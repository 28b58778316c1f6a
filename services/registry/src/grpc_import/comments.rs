//! What the author of a proto file wrote beside a method, message or field, where the server gives it. Pure.

use std::collections::HashMap;

use prost_reflect::FileDescriptor;

use crate::normalise::clean;

/// Comments by file and path (`google.protobuf.SourceCodeInfo.Location.path`).
#[derive(Debug, Default)]
pub(super) struct Comments {
    files: HashMap<String, HashMap<Vec<i32>, String>>,
}

impl Comments {
    /// The comment at a path, on one line and cut to so many characters; empty: none.
    pub(super) fn at(&mut self, file: &FileDescriptor, path: &[i32], characters: usize) -> String {
        let known = self.files.entry(file.name().to_owned()).or_insert_with(|| read(file));
        known.get(path).map(|text| clean(text, characters)).unwrap_or_default()
    }
}

/// The comment before a thing, else the one behind it.
fn read(file: &FileDescriptor) -> HashMap<Vec<i32>, String> {
    let Some(info) = &file.file_descriptor_proto().source_code_info else { return HashMap::new() };
    let told = info.location.iter().filter_map(|location| {
        let texts = [location.leading_comments(), location.trailing_comments()];
        let text = texts.into_iter().find(|text| !text.trim().is_empty())?;
        let words: Vec<&str> = text.split_whitespace().collect();
        Some((location.path.clone(), words.join(" ")))
    });
    told.collect()
}
