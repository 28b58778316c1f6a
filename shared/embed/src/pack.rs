//! The folder a model comes in: where it is, and files checked against its manifest before anyone reads them.
//! Must never write, and never hand out a byte that the manifest does not vouch for.

use crate::Fault;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Weights of the whole model.
pub(crate) const MODEL: &str = "model.safetensors";
/// Token vectors of the static mode.
pub(crate) const TABLE: &str = "static.safetensors";
/// Word pieces, one a line; the line number is the token.
pub(crate) const VOCABULARY: &str = "vocab.txt";

/// The folder's name wherever packs are kept.
const NAME: &str = "all-minilm-l6-v2";
const MANIFEST: &str = "manifest.json";
/// What this program reads; raised when the meaning of a file changes.
const FORMAT: u32 = 1;
/// Most bytes of one file that are read at all: several times the largest of a pack.
const MAX_FILE: u64 = 128 << 20;
/// Raised when the way from files to vectors changes, so that kept vectors are made anew.
const ENGINE: &str = "1";

/// A folder with a manifest that was understood.
#[derive(Debug)]
pub(crate) struct Pack {
    folder: PathBuf,
    manifest: Manifest,
}

#[derive(Debug, Deserialize)]
struct Manifest {
    format: u32,
    name: String,
    files: BTreeMap<String, Entry>,
}

#[derive(Debug, Deserialize)]
struct Entry {
    sha256: String,
    bytes: u64,
}

impl Pack {
    /// The pack of a folder (or of `all-minilm-l6-v2` in it), or else the first there is in the usual places.
    pub(crate) fn find(folder: Option<&Path>) -> Result<Self, Fault> {
        let places = folder.map_or_else(usual_places, |folder| vec![folder.to_owned()]);
        let all = places.iter().flat_map(|place| [place.join(NAME), place.clone()]);
        match all.into_iter().find(|folder| folder.join(MANIFEST).exists()) {
            Some(folder) => Self::open(folder),
            None => Err(Fault::Nowhere(places)),
        }
    }

    fn open(folder: PathBuf) -> Result<Self, Fault> {
        let path = folder.join(MANIFEST);
        let manifest: Manifest = serde_json::from_slice(&read(&path)?).map_err(|error| Fault::Damaged {
            path: path.clone(),
            what: format!("is no manifest: {error}"),
        })?;
        if manifest.format != FORMAT {
            let what = format!("has format {}, and this program reads {FORMAT}", manifest.format);
            return Err(Fault::Damaged { path, what });
        }
        Ok(Self { folder, manifest })
    }

    pub(crate) fn name(&self) -> &str {
        &self.manifest.name
    }

    /// A file's bytes, if they are those of the manifest.
    pub(crate) fn read(&self, file: &str) -> Result<Vec<u8>, Fault> {
        let entry = self
            .manifest
            .files
            .get(file)
            .ok_or_else(|| self.damaged(MANIFEST, format!("says nothing of {file}")))?;
        let bytes = read(&self.folder.join(file))?;
        if bytes.len() as u64 != entry.bytes {
            let what = format!("has {} bytes where the manifest says {}", bytes.len(), entry.bytes);
            return Err(self.damaged(file, what));
        }
        if !hex::encode(Sha256::digest(&bytes)).eq_ignore_ascii_case(&entry.sha256) {
            return Err(self.damaged(file, "its SHA-256 is not the one in the manifest".to_owned()));
        }
        Ok(bytes)
    }

    /// First 12 hexadecimal digits of the SHA-256 over what the vectors of these files come from.
    pub(crate) fn digest(&self, files: &[&str]) -> String {
        let mut hash = Sha256::new_with_prefix(ENGINE);
        for file in files {
            let sum = self.manifest.files.get(*file).map_or("", |entry| entry.sha256.as_str());
            hash.update(format!("\n{file} {}", sum.to_ascii_lowercase()));
        }
        hex::encode(hash.finalize())[..12].to_owned()
    }

    pub(crate) fn damaged(&self, file: &str, what: String) -> Fault {
        Fault::Damaged { path: self.folder.join(file), what }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Fault> {
    let unreadable = |reason: String| Fault::Unreadable { path: path.to_owned(), reason };
    let file = File::open(path).map_err(|error| unreadable(error.to_string()))?;
    let mut bytes = Vec::new();
    // Bounded, for a path may name a pipe or a device that never ends.
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(|error| unreadable(error.to_string()))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(unreadable(format!("longer than {MAX_FILE} bytes")));
    }
    Ok(bytes)
}

/// Beside the binary, where packages put shared data, and the checkout this was built from.
fn usual_places() -> Vec<PathBuf> {
    let beside = std::env::current_exe().ok().and_then(|binary| binary.parent().map(Path::to_owned));
    let installed =
        beside.into_iter().flat_map(|bin| [bin.join("models"), bin.join("../share/toolcrib/models")]);
    installed.chain([Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models")]).collect()
}
