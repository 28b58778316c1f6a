//! The key that a model's server wants: read from its file when it is needed, and wiped from memory after. Must never
//! be in an error, a log or a `Debug`.

use std::{
    io::{self, Read},
    path::Path,
};

use reqwest::header::HeaderValue;
use secrecy::zeroize::Zeroizing;

/// Longest key, in bytes.
const MAX_KEY: u64 = 8_192;

/// What is wrong with the file; the text does not show what is in it.
pub(super) fn check(file: &Path) -> Result<(), String> {
    authorization(file).map(drop)
}

/// The header that carries the key; `None` where there is no file to read it from.
pub(super) fn authorization(file: &Path) -> Result<Option<HeaderValue>, String> {
    if file.as_os_str().is_empty() {
        return Ok(None);
    }
    let text = read(file).map_err(|error| format!("cannot be read: {error}"))?;
    let key = text.trim();
    if key.is_empty() || text.len() as u64 > MAX_KEY {
        return Err(format!("must hold a key of 1 to {MAX_KEY} bytes"));
    }
    let bearer = Zeroizing::new(format!("Bearer {key}"));
    let mut value = HeaderValue::from_str(&bearer)
        .map_err(|_| "holds characters that no key has: it must be one line of ASCII".to_owned())?;
    value.set_sensitive(true);
    Ok(Some(value))
}

fn read(file: &Path) -> io::Result<Zeroizing<String>> {
    // Room for all of it from the start: a text that grows leaves copies behind.
    let mut text = Zeroizing::new(String::with_capacity(usize::try_from(MAX_KEY).unwrap_or_default() + 1));
    std::fs::File::open(file)?.take(MAX_KEY + 1).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_one_line_and_never_shown() {
        let folder = testkit::folder();
        let file = folder.path().join("key");
        let write = |text: &str| std::fs::write(&file, text).unwrap();
        write("sk-sesame\n");
        let value = authorization(&file).unwrap().unwrap();
        assert_eq!(value.to_str().unwrap(), "Bearer sk-sesame");
        assert!(!format!("{value:?}").contains("sesame"));
        for wrong in ["", " \n", "sk-sesame\nsk-second", &"x".repeat(8_193)] {
            write(wrong);
            let fault = authorization(&file).unwrap_err();
            assert!(!fault.contains("sesame"), "{fault}");
        }
        assert!(check(&folder.path().join("none")).unwrap_err().contains("cannot be read"));
        assert_eq!(authorization(Path::new("")).unwrap(), None);
    }
}
