//! The data folder of `toolcrib up`: database, secrets, key, workspaces. The command line finds it again.

use std::{
    fs, io,
    io::Write,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use anyhow::Context;
use rand::Rng;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

/// Where the folder is when the checkout cannot be reached by the database's user.
const ELSEWHERE: &str = "/var/lib/toolcrib";

/// The folder that `up` uses without `--data`: `.data` here, or one under /var/lib where the unprivileged
/// user that runs the database cannot reach this folder, as under a private home.
pub fn locate() -> PathBuf {
    let here = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("."));
    match store::unprivileged_user() {
        Ok(Some(user)) if !store::user_can_reach(&user, &here) => {
            let digest = types::digest_bytes(here.as_os_str().as_encoded_bytes());
            Path::new(ELSEWHERE).join(format!("data-{}", &digest[..12]))
        }
        _ => here.join(".data"),
    }
}

/// The data folder, open for this process.
#[derive(Debug, Clone)]
pub struct Data(PathBuf);

/// Secrets of one private installation.
#[derive(Serialize, Deserialize)]
struct Secrets {
    caller_token_key: String,
    api_key_pepper: String,
}

impl Data {
    /// Makes the folder if it is not there. Others may pass through it to what they own, and list nothing.
    /// The rights of a folder that holds something already stay as they are.
    pub fn open(folder: &Path) -> anyhow::Result<Self> {
        let made = || {
            fs::create_dir_all(folder)?;
            let folder = folder.canonicalize()?;
            if fs::read_dir(&folder)?.next().is_none() {
                fs::set_permissions(&folder, fs::Permissions::from_mode(0o711))?;
            }
            Ok::<_, io::Error>(folder)
        };
        made().map(Self).with_context(|| format!("the data folder {} cannot be made", folder.display()))
    }

    /// A path inside.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The folder itself.
    pub fn folder(&self) -> &Path {
        &self.0
    }

    /// Caller token key and API key pepper, made on the first call and kept.
    pub fn secrets(&self) -> anyhow::Result<(SecretString, SecretString)> {
        let file = self.path("secrets.json");
        let secrets: Secrets = match fs::read_to_string(&file) {
            Ok(text) => serde_json::from_str(&text)
                .with_context(|| format!("{} is damaged; without it no kept key is valid", file.display()))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let secrets = Secrets { caller_token_key: random_hex(), api_key_pepper: random_hex() };
                self.write_private("secrets.json", &serde_json::to_string(&secrets)?)?;
                secrets
            }
            Err(error) => return Err(error).with_context(|| format!("{} cannot be read", file.display())),
        };
        Ok((secrets.caller_token_key.into(), secrets.api_key_pepper.into()))
    }

    /// File with the key that credentials are kept under, made on the first call. Without it none can be opened.
    pub fn credential_keys(&self) -> anyhow::Result<PathBuf> {
        self.wrapping_keys("credential.keys")
    }

    /// File with the key that the trail's payloads are sealed under, made on the first call. Without it none can be
    /// opened.
    pub fn audit_keys(&self) -> anyhow::Result<PathBuf> {
        self.wrapping_keys("audit.keys")
    }

    fn wrapping_keys(&self, name: &str) -> anyhow::Result<PathBuf> {
        let file = self.path(name);
        if !file.try_exists().with_context(|| format!("{} cannot be looked for", file.display()))? {
            self.write_private(
                name,
                &format!("# ID, space, 256 bits as hex; the first key wraps\nk1 {}\n", random_hex()),
            )?;
        }
        Ok(file)
    }

    /// File with the key that signs checkpoints of the trail, made on the first call. What it signed can be checked with
    /// its public half, which every answer with a checkpoint has.
    pub fn signing_key(&self) -> anyhow::Result<PathBuf> {
        let (name, file) = ("audit-signing.key", self.path("audit-signing.key"));
        if !file.try_exists().with_context(|| format!("{} cannot be looked for", file.display()))? {
            let key = trail::note::SigningKey::generate("toolcrib")?;
            self.write_private(name, &format!("{}\n", key.private_key()))?;
        }
        Ok(file)
    }

    /// The folder of a team's secrets, below the folder that is returned, which this user alone can read.
    pub fn credential_sources(&self, team: &str) -> anyhow::Result<PathBuf> {
        let folder = self.path("credentials");
        let made = fs::create_dir_all(folder.join(team))
            .and_then(|()| fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)));
        made.with_context(|| format!("{} cannot be made", folder.display()))?;
        Ok(folder)
    }

    /// The kept API key, if there is one.
    pub fn key(&self) -> Option<SecretString> {
        let key = fs::read_to_string(self.path("dev.key")).ok()?;
        Some(key.trim().to_owned().into())
    }

    /// Keeps the API key, readable for this user alone.
    pub fn keep_key(&self, key: &SecretString) -> anyhow::Result<()> {
        self.write_private("dev.key", &format!("{}\n", key.expose_secret()))
    }

    /// Says where the edge listens; the command line reads it.
    pub fn publish_address(&self, address: &str) -> anyhow::Result<()> {
        self.write_private("edge.address", address)
    }

    /// Takes the address back when the edge is gone.
    pub fn withdraw_address(&self) {
        // Gone already is as good.
        let _ = fs::remove_file(self.path("edge.address"));
    }

    /// Writes beside and renames: a reader sees the old file or the whole new one.
    fn write_private(&self, name: &str, text: &str) -> anyhow::Result<()> {
        let temporary = self.path(&format!(".{name}.new"));
        let write = || {
            let _ = fs::remove_file(&temporary);
            let mut file =
                fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&temporary, self.path(name))
        };
        write().with_context(|| format!("{} cannot be written", self.path(name).display()))
    }
}

/// 32 random bytes from the operating system's generator, as hex.
fn random_hex() -> String {
    let mut bytes = [0_u8; 32];
    rand::rng().fill_bytes(&mut bytes);
    hex::encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_made_once_and_for_this_user_alone() {
        let folder = tempfile::tempdir().unwrap();
        let data = Data::open(&folder.path().join("data")).unwrap();
        let (token, pepper) = data.secrets().unwrap();
        let again = data.secrets().unwrap();
        assert_eq!(token.expose_secret(), again.0.expose_secret());
        assert_ne!(token.expose_secret(), pepper.expose_secret());
        assert_eq!(token.expose_secret().len(), 64);
        let mode = fs::metadata(data.path("secrets.json")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::metadata(data.folder()).unwrap().permissions().mode() & 0o777, 0o711);
        fs::set_permissions(data.folder(), fs::Permissions::from_mode(0o755)).unwrap();
        Data::open(data.folder()).unwrap();
        assert_eq!(fs::metadata(data.folder()).unwrap().permissions().mode() & 0o777, 0o755);
        let keys = data.credential_keys().unwrap();
        assert_eq!(fs::metadata(&keys).unwrap().permissions().mode() & 0o777, 0o600);
        let made = fs::read_to_string(&keys).unwrap();
        data.credential_keys().unwrap();
        assert_eq!(fs::read_to_string(&keys).unwrap(), made, "made once");
        let of_audit = data.audit_keys().unwrap();
        assert_eq!(fs::metadata(&of_audit).unwrap().permissions().mode() & 0o777, 0o600);
        assert_ne!(fs::read_to_string(&of_audit).unwrap(), made, "another key");
        let signing = data.signing_key().unwrap();
        assert_eq!(fs::metadata(&signing).unwrap().permissions().mode() & 0o777, 0o600);
        let made = trail::note::SigningKey::from_file(&signing).unwrap().verifier_key();
        let again = trail::note::SigningKey::from_file(&data.signing_key().unwrap()).unwrap();
        assert_eq!(again.verifier_key(), made, "made once");
        let sources = data.credential_sources("dev").unwrap();
        assert_eq!(fs::metadata(&sources).unwrap().permissions().mode() & 0o777, 0o700);
        assert!(sources.join("dev").is_dir());
        fs::write(data.path("secrets.json"), "{").unwrap();
        assert!(data.secrets().unwrap_err().to_string().contains("damaged"));
    }
}
