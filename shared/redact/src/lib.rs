//! Takes secrets and personal data out of what is stored: arguments, results and messages of tools reach the database,
//! the trail and the logs only through here. Must never leave a text that it cannot read whole, nor show a secret.
//!
//! # The order
//!
//! 1. **Credentials that the call carried**, in every form that `shared/scrub` knows: raw, reversed, base64 in either
//!    alphabet wherever in a longer text it stands, hexadecimal of either case, percent-encoded, JSON- and HTML-escaped,
//!    quoted-printable and more. The executor takes them out of whatever comes back from a tool's server, before anything
//!    else sees it (`executor/drivers/mod.rs`): the caller, the cache and the record get an answer without them. What
//!    follows is for what is stored.
//! 2. **Marks of the tool's own schema** (`marks.rs`): `writeOnly`, `format: password`, `x-sensitivity`.
//! 3. **Names at any depth** (`names.rs`): those that are secret everywhere, and those that were added.
//! 4. **Detectors in every text, name and number** (`scan.rs`): private keys (`blocks.rs`), tokens and keys of known
//!    providers (`tokens.rs`, `middles.rs`), JWT, values behind a name that says secret (`named.rs`), Authorization and
//!    Cookie (`headers.rs`), user-info of URLs, connection strings and e-mail (`places.rs`), payment cards, social
//!    security and telephone numbers (`numbers.rs`), IBAN (`iban.rs`); and patterns that were added (`patterns.rs`). One pass, whose work
//!    is in proportion to the text.
//! 5. **JSON in texts**, three levels deep, as a value of its own; JSON in base64 that holds anything of the above goes
//!    whole, since half of it could not be read. What goes deeper, or is too large to store, goes as a whole.
//!
//! What is added, and which detectors are left out, stands in `config.rs`: 1 and 2, private keys and tokens of known
//! providers always hold.

mod blocks;
mod config;
mod headers;
mod iban;
mod look;
mod marks;
mod middles;
mod named;
mod names;
mod numbers;
mod patterns;
mod places;
mod report;
mod rules;
mod scan;
#[cfg(test)]
mod tests;
mod tokens;
mod value;

use serde_json::Value;

pub use self::{
    config::{Added, Config, Fault, Pattern, TeamConfig},
    marks::{is_huge, may_mark},
    report::Finding,
    rules::{Redaction, Rules},
};

/// What stands where something was taken out.
pub const MARK: &str = "[redacted]";

/// `Rules::json` where nothing is set.
#[must_use]
pub fn json(value: &Value, schema: Option<&Value>, max_bytes: usize) -> String {
    Rules::standard().json(value, schema, max_bytes)
}

/// `Rules::text` where nothing is set.
#[must_use]
pub fn text(text: &str) -> String {
    Rules::standard().text(text)
}

/// `Rules::excerpt` where nothing is set.
#[must_use]
pub fn excerpt(whole: &str, most: usize) -> String {
    Rules::standard().excerpt(whole, most)
}
