//! Verifier keys that the command line names: written out, or in files.

use trail::note::VerifierKey;

use crate::cli::{error::Error, files};

/// Reads them all.
pub fn read(named: &[String]) -> Result<Vec<VerifierKey>, Error> {
    let mut keys = Vec::new();
    for text in named {
        if let Ok(key) = VerifierKey::parse(text.trim()) {
            keys.push(key);
        } else {
            keys.extend(of_file(text)?);
        }
    }
    Ok(keys)
}

/// One a line; empty lines and those that begin with # are passed over.
fn of_file(file: &str) -> Result<Vec<VerifierKey>, Error> {
    let wrong = |what: String| Error::usage(format!("--key {file}: {what}"));
    let text = files::read(file)
        .map_err(|error| wrong(format!("is no verifier key name+hash+base64, and {error}")))?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let keys: Vec<_> = lines
        .map(VerifierKey::parse)
        .collect::<Result<_, _>>()
        .map_err(|error| wrong(format!("a key {error}")))?;
    if keys.is_empty() { Err(wrong("holds no key".into())) } else { Ok(keys) }
}

#[cfg(test)]
mod tests {
    use trail::note::SigningKey;

    use super::*;

    #[test]
    fn keys_are_given_as_such_or_in_files() {
        let (one, other) = (SigningKey::generate("a").unwrap(), SigningKey::generate("b").unwrap());
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("keys").display().to_string();
        std::fs::write(&file, format!("# ours\n{}\n\n", other.verifier_key())).unwrap();
        let keys = read(&[one.verifier_key(), file.clone()]).unwrap();
        assert_eq!(keys, [one.verifier(), other.verifier()]);
        std::fs::write(&file, one.private_key()).unwrap();
        for wrong in [file.as_str(), "/no/such/file", "a+b+c"] {
            let error = read(&[wrong.to_owned()]).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(!format!("{error:?}").contains(&one.private_key()));
        }
    }
}
