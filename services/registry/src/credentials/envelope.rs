//! What sealed bytes of credentials belong to: each version's own data key, itself sealed under a wrapping key. Must
//! never open for another team, credential, version, kind or purpose what was sealed for one.

use keyring::{Key, bound};
use secrecy::zeroize::Zeroizing;

use super::secret::Kind;

/// Opens the authenticated data; another layout takes another label.
const LABEL: &[u8] = b"toolcrib credential 1";

/// What sealed bytes are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose<'a> {
    /// A data key, under the wrapping key of this id.
    DataKey(&'a str),
    /// The secret.
    Secret,
    /// A token fetched with it.
    Token,
}

/// The version that sealed bytes belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner<'a> {
    pub team: &'a str,
    pub name: &'a str,
    pub version: i32,
    pub kind: Kind,
}

impl<'a> Owner<'a> {
    /// What belongs to a credential as a whole, of whatever kind it comes to be: no version is 0.
    pub(crate) fn whole(team: &'a str, name: &'a str) -> Self {
        Self { team, name, version: 0, kind: Kind::ApiKey }
    }
}

/// Keys, used for the credentials of one owner.
pub(crate) trait Envelope: Sized {
    /// Nonce and ciphertext. `None` where the cipher refuses the length.
    fn seal_for(&self, owner: Owner, purpose: Purpose, plain: &[u8]) -> Option<Vec<u8>>;

    /// What was sealed for this owner and purpose; `None` where it was not, or under another key.
    fn open_for(&self, owner: Owner, purpose: Purpose, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>>;

    /// This key, sealed under a wrapping key.
    fn wrap_for(&self, owner: Owner, key_id: &str, wrapping: &Self) -> Option<Vec<u8>>;

    /// The data key that was sealed under this wrapping key.
    fn unwrap_for(&self, owner: Owner, key_id: &str, wrapped: &[u8]) -> Option<Self>;
}

impl Envelope for Key {
    fn seal_for(&self, owner: Owner, purpose: Purpose, plain: &[u8]) -> Option<Vec<u8>> {
        self.seal(&authenticated(owner, purpose), plain)
    }

    fn open_for(&self, owner: Owner, purpose: Purpose, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        self.open(&authenticated(owner, purpose), sealed)
    }

    fn wrap_for(&self, owner: Owner, key_id: &str, wrapping: &Self) -> Option<Vec<u8>> {
        self.wrap(&authenticated(owner, Purpose::DataKey(key_id)), wrapping)
    }

    fn unwrap_for(&self, owner: Owner, key_id: &str, wrapped: &[u8]) -> Option<Self> {
        self.unwrap(&authenticated(owner, Purpose::DataKey(key_id)), wrapped)
    }
}

fn authenticated(owner: Owner, purpose: Purpose) -> Vec<u8> {
    let (word, key_id) = match purpose {
        Purpose::DataKey(id) => ("key", id),
        Purpose::Secret => ("secret", ""),
        Purpose::Token => ("token", ""),
    };
    let (team, name, version) = (owner.team.as_bytes(), owner.name.as_bytes(), owner.version.to_be_bytes());
    bound(&[LABEL, team, name, &version, owner.kind.as_str().as_bytes(), word.as_bytes(), key_id.as_bytes()])
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNER: Owner<'static> = Owner { team: "team", name: "name", version: 3, kind: Kind::ApiKey };

    #[test]
    fn it_opens_for_its_owner_and_purpose_only() {
        let key = Key::new([7; 32]);
        let sealed = key.seal_for(OWNER, Purpose::Secret, b"hunter2").unwrap();
        assert_eq!(**key.open_for(OWNER, Purpose::Secret, &sealed).unwrap(), b"hunter2"[..]);
        for (what, owner) in [
            ("team", Owner { team: "team2", ..OWNER }),
            ("name", Owner { name: "nam", ..OWNER }),
            ("version", Owner { version: 4, ..OWNER }),
            ("kind", Owner { kind: Kind::Basic, ..OWNER }),
            ("border", Owner { team: "teamn", name: "ame", ..OWNER }),
        ] {
            assert!(key.open_for(owner, Purpose::Secret, &sealed).is_none(), "another {what}");
        }
        assert!(key.open_for(OWNER, Purpose::Token, &sealed).is_none(), "another purpose");
        let wrapped = key.wrap_for(OWNER, "k1", &key).unwrap();
        assert!(key.unwrap_for(OWNER, "k1", &wrapped).unwrap() == key);
        assert!(key.unwrap_for(OWNER, "k2", &wrapped).is_none(), "another id");
        assert!(key.unwrap_for(Owner { version: 4, ..OWNER }, "k1", &wrapped).is_none(), "another version");
    }

    /// What is kept in databases does not follow the code.
    #[test]
    fn what_is_authenticated_never_changes() {
        let expected = concat!(
            "0000000000000015746f6f6c637269622063726564656e7469616c2031",
            "00000000000000047465616d",
            "00000000000000046e616d65",
            "000000000000000400000003",
            "00000000000000076170695f6b6579",
            "00000000000000036b6579",
            "00000000000000026b31",
        );
        assert_eq!(hex::encode(authenticated(OWNER, Purpose::DataKey("k1"))), expected);
    }
}
