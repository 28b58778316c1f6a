//! Names whose values are secret, in values and in texts. Must never judge a value by itself.

/// Key names whose values are always secret; compared in lower case without `_`, `-`, `.` and spaces.
const SECRET_KEYS: [&str; 13] = [
    "auth",
    "pass",
    "cookies",
    "secrets",
    "setcookie",
    "ssn",
    "cvv",
    "cvv2",
    "cvc",
    "jwt",
    "iban",
    "otp",
    "mnemonic",
];

/// Ends of such names: `db_password`, `X-Api-Key`, `aws_secret_access_key`.
const SECRET_ENDS: [&str; 35] = [
    "pwd",
    "password",
    "passwd",
    "passphrase",
    "passcode",
    "passwordhash",
    "secret",
    "token",
    "apikey",
    "accesskey",
    "secretkey",
    "privatekey",
    "sessionkey",
    "signingkey",
    "encryptionkey",
    "masterkey",
    "accountkey",
    "authkey",
    "hmackey",
    "licensekey",
    "subscriptionkey",
    "authorization",
    "cookie",
    "credential",
    "credentials",
    "connectionstring",
    "clientsecretvalue",
    "seedphrase",
    "recoverycode",
    "verificationcode",
    "cardnumber",
    "securitycode",
    "socialsecuritynumber",
    "sessionid",
    "xsrf",
];

/// Ends of names that sound like it and only say where a listing goes on, or how a model divides texts.
const OTHER_ENDS: [&str; 16] = [
    "oldpwd",
    "pagetoken",
    "nexttoken",
    "continuationtoken",
    "synctoken",
    "resumetoken",
    "maxtoken",
    "pertoken",
    "eostoken",
    "bostoken",
    "padtoken",
    "unktoken",
    "septoken",
    "clstoken",
    "masktoken",
    "stoptoken",
];

/// Ends of names whose values are telephone numbers.
const PHONE_ENDS: [&str; 9] = [
    "phone",
    "phonenumber",
    "telephone",
    "mobile",
    "mobilenumber",
    "fax",
    "faxnumber",
    "msisdn",
    "cellnumber",
];

/// Ends of names in texts: there the short ones are words of the language.
const TEXT_KEYS: [&str; 4] = ["pass", "ssn", "cvv", "otp"];

/// Names that were added; each as it is compared.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Names {
    whole: Vec<Vec<u8>>,
    ends: Vec<Vec<u8>>,
}

impl Names {
    /// Adds a name; with `*` before it, every name that ends with it.
    pub(crate) fn add(&mut self, name: &str) {
        let (list, name) = match name.strip_prefix('*') {
            Some(end) => (&mut self.ends, end),
            None => (&mut self.whole, name),
        };
        plain(name, |plain| list.push(plain.to_vec()));
    }

    fn has(&self, plain: &[u8]) -> bool {
        self.whole.iter().any(|name| name == plain) || self.ends.iter().any(|end| plain.ends_with(end))
    }

    /// Whether a key's value goes.
    pub(crate) fn is_secret_key(&self, name: &str) -> bool {
        plain(name, |plain| {
            let is_key = SECRET_KEYS.iter().any(|key| key.as_bytes() == plain);
            is_key || says_secret(plain) || self.has(plain)
        })
    }

    /// Whether what a text assigns to this name goes.
    pub(crate) fn is_secret_in_text(&self, name: &str) -> bool {
        plain(name, |plain| {
            let is_key = TEXT_KEYS.iter().any(|key| key.as_bytes() == plain);
            is_key || says_secret(plain) || self.has(plain)
        })
    }
}

/// Whether a key's value is a telephone number.
pub(crate) fn is_phone(name: &str) -> bool {
    plain(name, |plain| ends(plain, &PHONE_ENDS))
}

/// Whether a name is one that no word of the language is: what follows it is a secret however plain it looks.
pub(crate) fn is_password(name: &str) -> bool {
    let words = ["password", "passwd", "passphrase", "passcode", "pwd", "apikey", "secretkey", "accesskey"];
    plain(name, |plain| ends(plain, &words))
}

/// A name in lower case, without what divides its words.
fn plain<T>(name: &str, then: impl FnOnce(&[u8]) -> T) -> T {
    let is_filler = |c: char| matches!(c, '_' | '-' | '.' | ' ');
    // Nearly every name is short and plain: it needs no text of its own.
    let mut room = [0; 64];
    if !name.is_ascii() || name.len() > room.len() {
        let plain: String = name.chars().filter(|c| !is_filler(*c)).collect();
        return then(plain.to_lowercase().as_bytes());
    }
    let mut length = 0;
    for byte in name.bytes().filter(|byte| !is_filler(char::from(*byte))) {
        room[length] = byte.to_ascii_lowercase();
        length += 1;
    }
    then(&room[..length])
}

fn ends(plain: &[u8], ends: &[&str]) -> bool {
    ends.iter().any(|end| plain.ends_with(end.as_bytes()))
}

fn says_secret(plain: &[u8]) -> bool {
    // Every end of the list has one of these last letters: most names are done with.
    let may = plain.last().is_some_and(|last| b"defghklnrsty".contains(last));
    may && ends(plain, &SECRET_ENDS) && !ends(plain, &OTHER_ENDS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_by_their_letters_and_ends() {
        let names = Names::default();
        for secret in
            ["db_password", "X-Api-Key", "Client Secret", "aws.secret-access-key", "A.U.T.H", "Set-Cookie"]
        {
            assert!(names.is_secret_key(secret), "{secret}");
        }
        for open in
            ["secretary", "tokens", "max_tokens", "nextPageToken", "eos_token", "author", "passed", "keys"]
        {
            assert!(!names.is_secret_key(open), "{open}");
        }
        assert!(names.is_secret_in_text("pwd") && !names.is_secret_in_text("auth"));
        let long = format!("{}password", "_".repeat(70));
        assert!(names.is_secret_key(&long) && names.is_secret_key("My To\u{212a}en"));
    }

    #[test]
    fn the_last_letters_leave_no_end_out() {
        for end in SECRET_ENDS {
            assert!(says_secret(end.as_bytes()), "{end}");
        }
    }

    #[test]
    fn added_names_are_whole_and_added_ends_are_ends() {
        let mut names = Names::default();
        names.add("Badge No");
        names.add("*_pin");
        for secret in ["badge_no", "BADGE-NO", "door_pin", "pin"] {
            assert!(names.is_secret_key(secret) && names.is_secret_in_text(secret), "{secret}");
        }
        assert!(!names.is_secret_key("my_badge_no") && !names.is_secret_key("pinned"));
    }
}
