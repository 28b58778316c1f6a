//! What can be wrong with a model pack, in words that say what to do. Must never hold a text to embed.

use std::path::PathBuf;

/// Why a model pack cannot be used. Each names the file and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// No pack where one was looked for.
    #[error("no model pack in {}: put the folder all-minilm-l6-v2 of the release there, or name its place", list(.0))]
    Nowhere(Vec<PathBuf>),
    /// A file that cannot be read, with the system's reason.
    #[error("{}: cannot be read ({reason}); make it readable, or take it from the release again", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's words.
        reason: String,
    },
    /// A file that is not what the manifest says, or a manifest that says nothing of use.
    #[error("{}: {what}; take it from the release again, or remake it with scripts/model-pack", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
}

fn list(folders: &[PathBuf]) -> String {
    folders.iter().map(|folder| folder.display().to_string()).collect::<Vec<_>>().join(", ")
}
