//! Where wrapping keys come from. The first key wraps, the others still open, so that a key can be replaced while
//! everything runs. Must never tell a key, in an error or anywhere else.

use std::{
    fs::File,
    io::Read,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use secrecy::zeroize::Zeroizing;

use crate::Key;

/// Longest key file that is read, in bytes.
const MAX_FILE: u64 = 64 * 1024;
/// Longest id of a key.
const MAX_ID: usize = 64;

/// Why there are no wrapping keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeysError {
    /// The operator has set none: the setting that names the file.
    #[error("no key is set to keep secrets under; set {0}")]
    NotSet(&'static str),
    /// The file is not what it should be; says how.
    #[error("{0}")]
    File(String),
    /// Something was wrapped under a key that is not there any more.
    #[error("wrapping key {id} does not stand in {setting} any more; put it back at its end")]
    Missing {
        /// Id of the key.
        id: String,
        /// The setting that names the file.
        setting: &'static str,
    },
}

/// Where wrapping keys come from.
#[allow(missing_debug_implementations, reason = "holds keys")]
pub enum KeyProvider {
    /// Nowhere: nothing is kept. With the setting that would name a file.
    None(&'static str),
    /// A file that the operator keeps.
    File(KeyFile),
}

/// The wrapping keys, as they were when they were read.
#[derive(PartialEq, Eq)]
#[allow(missing_debug_implementations, reason = "holds keys")]
pub struct Keys {
    keys: Vec<(String, Key)>,
    setting: &'static str,
}

/// A file with one key a line: its id, a space, and 64 hex digits. What follows a `#` is a comment.
#[allow(missing_debug_implementations, reason = "holds keys")]
pub struct KeyFile {
    path: PathBuf,
    setting: &'static str,
    read: RwLock<Option<Arc<Keys>>>,
}

impl KeyProvider {
    /// Keys from the file that a setting names; an empty path is none.
    pub fn new(path: &Path, setting: &'static str) -> Self {
        if path.as_os_str().is_empty() {
            return Self::None(setting);
        }
        Self::File(KeyFile { path: path.to_owned(), setting, read: RwLock::default() })
    }

    /// The keys as they were last read.
    pub fn keys(&self) -> Result<Arc<Keys>, KeysError> {
        match self {
            Self::None(setting) => Err(KeysError::NotSet(setting)),
            Self::File(file) => file.keys(),
        }
    }

    /// The keys as they were last read, where this one is among them; else as they are now: another process may
    /// have wrapped under a key that this one has not read yet.
    pub fn keys_with(&self, id: &str) -> Result<Arc<Keys>, KeysError> {
        let keys = self.keys()?;
        if keys.find(id).is_none() {
            self.refresh()?;
            return self.keys();
        }
        Ok(keys)
    }

    /// The keys as they are now; gives whether they changed.
    pub fn refresh(&self) -> Result<bool, KeysError> {
        match self {
            Self::None(_) => Ok(false),
            Self::File(file) => file.refresh(),
        }
    }
}

impl KeyFile {
    fn keys(&self) -> Result<Arc<Keys>, KeysError> {
        if let Some(keys) = self.read.read().unwrap_or_else(PoisonError::into_inner).clone() {
            return Ok(keys);
        }
        self.refresh()?;
        let read = self.read.read().unwrap_or_else(PoisonError::into_inner).clone();
        read.ok_or_else(|| KeysError::File("the wrapping keys have not been read".into()))
    }

    /// Reads the file again. What was read before stays where it cannot be read.
    fn refresh(&self) -> Result<bool, KeysError> {
        let keys = Arc::new(read(&self.path, self.setting)?);
        let mut known = self.read.write().unwrap_or_else(PoisonError::into_inner);
        let changed = known.as_ref() != Some(&keys);
        *known = Some(keys);
        Ok(changed)
    }
}

impl Keys {
    /// The key that wraps, with its id.
    pub fn newest(&self) -> (&str, &Key) {
        let (id, key) = &self.keys[0];
        (id, key)
    }

    /// The key of this id.
    pub fn find(&self, id: &str) -> Option<&Key> {
        self.keys.iter().find(|(known, _)| known == id).map(|(_, key)| key)
    }

    /// The key of this id, or what to tell the operator.
    pub fn get(&self, id: &str) -> Result<&Key, KeysError> {
        self.find(id).ok_or_else(|| KeysError::Missing { id: id.to_owned(), setting: self.setting })
    }

    /// The ids, that of the key that wraps first.
    pub fn ids(&self) -> Vec<&str> {
        self.keys.iter().map(|(id, _)| id.as_str()).collect()
    }
}

/// Reads and checks the key file that a setting names.
pub fn read(path: &Path, setting: &'static str) -> Result<Keys, KeysError> {
    let fault = |what: String| KeysError::File(format!("{setting} {}: {what}", path.display()));
    let file = File::open(path).map_err(|error| fault(format!("cannot be opened: {error}")))?;
    let about = file.metadata().map_err(|error| fault(format!("cannot be looked at: {error}")))?;
    if !about.is_file() {
        return Err(fault("is not a file".into()));
    }
    if about.mode() & 0o007 != 0 {
        return Err(fault("is open to everybody; take their rights away, such as by chmod 600".into()));
    }
    let mut text = Zeroizing::new(String::with_capacity(4096));
    let size = file.take(MAX_FILE + 1).read_to_string(&mut text);
    match size {
        Ok(size) if size as u64 <= MAX_FILE => parse(&text).map(|keys| Keys { keys, setting }).map_err(fault),
        Ok(_) => Err(fault(format!("is larger than {MAX_FILE} bytes"))),
        Err(_) => Err(fault("cannot be read as text".into())),
    }
}

fn parse(text: &str) -> Result<Vec<(String, Key)>, String> {
    let mut keys: Vec<(String, Key)> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let wrong = || format!("line {} is not an id, a space and 64 hex digits", number + 1);
        let (id, digits) = line.split_once(char::is_whitespace).ok_or_else(wrong)?;
        let is_id = (1..=MAX_ID).contains(&id.len())
            && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        let mut key = Zeroizing::new([0; 32]);
        if !is_id || hex::decode_to_slice(digits.trim(), &mut *key).is_err() {
            return Err(wrong());
        }
        if keys.iter().any(|(known, _)| known == id) {
            return Err(format!("key id {id} stands there twice"));
        }
        keys.push((id.to_owned(), Key::new(*key)));
    }
    if keys.is_empty() {
        return Err(
            "holds no key; write a line such as the output of: echo k1 $(openssl rand -hex 32)".into()
        );
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const SETTING: &str = "some.key_file";

    fn line(id: &str, digit: char) -> String {
        format!("{id} {}\n", digit.to_string().repeat(64))
    }

    fn written(text: &str, mode: u32) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        file
    }

    #[test]
    fn the_first_key_wraps_and_all_open() {
        let file = written(&format!("# keys\n\n{}{}", line("k2", 'b'), line("k1", 'a')), 0o600);
        let keys = read(file.path(), SETTING).unwrap();
        assert_eq!(keys.ids(), ["k2", "k1"]);
        assert_eq!(keys.newest().0, "k2");
        assert!(*keys.find("k1").unwrap() == Key::new([0xaa; 32]));
        assert!(keys.find("k3").is_none());
    }

    #[test]
    fn a_file_that_changes_is_read_again_and_one_that_is_gone_forgets_nothing() {
        let file = written(&line("k1", 'a'), 0o640);
        let provider = KeyProvider::new(file.path(), SETTING);
        assert_eq!(provider.keys().unwrap().ids(), ["k1"]);
        assert_eq!(provider.refresh(), Ok(false));
        std::fs::write(file.path(), format!("{}{}", line("k2", 'b'), line("k1", 'a'))).unwrap();
        assert_eq!(provider.refresh(), Ok(true));
        assert_eq!(provider.keys_with("k1").unwrap().newest().0, "k2");
        std::fs::write(file.path(), format!("{}{}", line("k3", 'c'), line("k2", 'b'))).unwrap();
        assert_eq!(provider.keys().unwrap().newest().0, "k2", "not read again without need");
        assert_eq!(provider.keys_with("k3").unwrap().newest().0, "k3");
        let told = provider.keys_with("k1").unwrap().get("k1").err().unwrap().to_string();
        assert!(told.contains("k1") && told.contains(SETTING), "{told}");
        let path = file.path().to_owned();
        drop(file);
        assert!(provider.refresh().unwrap_err().to_string().contains(path.to_str().unwrap()));
        assert_eq!(provider.keys().unwrap().newest().0, "k3");
    }

    #[test]
    fn a_bad_file_is_refused_with_its_line_and_without_its_content() {
        let short = "k1 abcdef\n";
        for (text, mode, told) in [
            (line("k1", 'a').as_str(), 0o604, "everybody"),
            ("", 0o600, "no key"),
            (short, 0o600, "line 1"),
            (&line("k 1", 'a'), 0o600, "line 1"),
            (&line("k1", 'g'), 0o600, "line 1"),
            (&format!("{}{}", line("k1", 'a'), line("k1", 'b')), 0o600, "twice"),
        ] {
            let file = written(text, mode);
            let told_instead = read(file.path(), SETTING).err().unwrap().to_string();
            assert!(told_instead.contains(told), "{told_instead}");
            assert!(!told_instead.contains("abcdef") && !told_instead.contains("aaaa"), "{told_instead}");
        }
        assert!(read(Path::new("/nowhere"), SETTING).is_err());
        assert!(read(Path::new("/"), SETTING).err().unwrap().to_string().contains("not a file"));
        let none = KeyProvider::new(Path::new(""), SETTING);
        assert!(none.keys().err().unwrap().to_string().contains(SETTING));
    }
}
