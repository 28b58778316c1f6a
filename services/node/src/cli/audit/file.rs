//! Files that prove something: written whole or not at all.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use crate::cli::error::Error;

/// A file that stands in its place only once it is whole; until then under its name with `.part`.
pub struct NewFile {
    out: BufWriter<File>,
    path: PathBuf,
    part: PathBuf,
    is_whole: bool,
}

impl NewFile {
    /// Begins one.
    pub fn begin(path: &Path) -> Result<Self, Error> {
        let mut part = path.as_os_str().to_owned();
        part.push(".part");
        let part = PathBuf::from(part);
        let file = File::create(&part).map_err(|error| unwritable(&part, &error))?;
        Ok(Self { out: BufWriter::new(file), path: path.to_owned(), part, is_whole: false })
    }

    /// Adds to it.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.out.write_all(bytes).map_err(|error| unwritable(&self.part, &error))
    }

    /// Puts it in its place, in that of one that was there.
    pub fn finish(mut self) -> Result<(), Error> {
        let done = self
            .out
            .flush()
            .and_then(|()| self.out.get_ref().sync_all())
            .and_then(|()| std::fs::rename(&self.part, &self.path));
        done.map_err(|error| unwritable(&self.path, &error))?;
        self.is_whole = true;
        Ok(())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.is_whole {
            // Whoever sees it left behind sees by its name that it is not whole.
            let _ = std::fs::remove_file(&self.part);
        }
    }
}

fn unwritable(path: &Path, error: &io::Error) -> Error {
    Error::usage(format!("cannot write {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_there_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trail.jsonl");
        std::fs::write(&path, "before").unwrap();
        let mut begun = NewFile::begin(&path).unwrap();
        begun.write(b"half").unwrap();
        drop(begun);
        assert_eq!(std::fs::read(&path).unwrap(), b"before");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        let mut whole = NewFile::begin(&path).unwrap();
        whole.write(b"whole").unwrap();
        whole.finish().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"whole");
        assert!(NewFile::begin(&folder.path().join("no/such/folder")).is_err());
    }
}
