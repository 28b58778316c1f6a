//! Opaque page tokens, signed and bound to the filter they were made for, so that no one can read
//! another team's rows by editing one.

use std::fmt;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;

/// Rows a page has when none is asked for.
const DEFAULT_SIZE: i32 = 50;
/// Most rows a page has.
const MAX_SIZE: i32 = 1_000;
/// Bytes that the rows of a page may have together, so that the page is a message that clients take.
const MAX_BYTES: usize = 3 * 1024 * 1024;
/// Bytes of the signature kept in a token.
const MAC_BYTES: usize = 16;

/// Signs and reads page tokens.
#[derive(Clone)]
pub struct PageKey(Hmac<Sha256>);

impl fmt::Debug for PageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PageKey")
    }
}

/// Why a page cannot be given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PageError {
    /// The size is below 0 or above 1,000.
    #[error("page_size is {0}; it must be 0 (for 50) to 1000")]
    Size(i32),
    /// The token was not made for this filter, or was changed.
    #[error("page_token is not one of this listing; start again without it, or keep the filter as it was")]
    Token,
}

impl PageError {
    /// The field of the request that is wrong.
    pub fn field(&self) -> &'static str {
        match self {
            Self::Size(_) => "page_size",
            Self::Token => "page_token",
        }
    }
}

/// What a listing needs to know: where to start and how many rows to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Rows to return.
    pub size: i64,
    /// The last row of the page before, as the listing wrote it; `None` on the first page.
    pub cursor: Option<String>,
    filter: String,
}

impl PageKey {
    /// A key from the suite's shared secret.
    ///
    /// # Panics
    /// Never: HMAC takes keys of any length.
    pub fn new(secret: &SecretString) -> Self {
        let mut derive =
            Hmac::<Sha256>::new_from_slice(secret.expose_secret().as_bytes()).expect("any length");
        derive.update(b"toolcrib page token");
        Self(Hmac::new_from_slice(&derive.finalize().into_bytes()).expect("any length"))
    }

    /// Reads a request's size and token. `filter` is any text that stands for team and filter.
    pub fn page(&self, size: i32, token: &str, filter: impl Into<String>) -> Result<Page, PageError> {
        let filter = filter.into();
        let size = match size {
            0 => DEFAULT_SIZE,
            1..=MAX_SIZE => size,
            wrong => return Err(PageError::Size(wrong)),
        };
        let cursor = match token {
            "" => None,
            token => Some(self.open(token, &filter).ok_or(PageError::Token)?),
        };
        Ok(Page { size: i64::from(size), cursor, filter })
    }

    /// The token of the next page, or an empty one: read `page.size + 1` rows, call this, and the row
    /// too many is taken off.
    pub fn next<T>(&self, page: &Page, rows: &mut Vec<T>, cursor: impl Fn(&T) -> String) -> String {
        self.next_sized(page, rows, |_| 0, cursor)
    }

    /// The same for rows that may be large, of which `size` gives the bytes: a page has fewer rows rather
    /// than more bytes than a message may have, but never none.
    pub fn next_sized<T>(
        &self,
        page: &Page,
        rows: &mut Vec<T>,
        size: impl Fn(&T) -> usize,
        cursor: impl Fn(&T) -> String,
    ) -> String {
        let mut bytes = 0_usize;
        let fits = |row: &&T| {
            bytes = bytes.saturating_add(size(row));
            bytes <= MAX_BYTES
        };
        let fitting = rows.iter().take_while(fits).count().max(1);
        let size = usize::try_from(page.size).unwrap_or(usize::MAX).min(fitting);
        if rows.len() <= size {
            return String::new();
        }
        rows.truncate(size);
        rows.last().map(|row| self.seal(&cursor(row), &page.filter)).unwrap_or_default()
    }

    /// The token of a page that goes on behind this place, though the page before it is not full.
    pub fn next_at(&self, page: &Page, cursor: &str) -> String {
        self.seal(cursor, &page.filter)
    }

    fn seal(&self, cursor: &str, filter: &str) -> String {
        let mut bytes = self.mac(cursor, filter);
        bytes.extend_from_slice(cursor.as_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    fn open(&self, token: &str, filter: &str) -> Option<String> {
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (mac, cursor) = bytes.split_at_checked(MAC_BYTES)?;
        let cursor = std::str::from_utf8(cursor).ok()?;
        self.signed(cursor, filter).verify_truncated_left(mac).ok()?;
        Some(cursor.to_owned())
    }

    fn mac(&self, cursor: &str, filter: &str) -> Vec<u8> {
        self.signed(cursor, filter).finalize().into_bytes()[..MAC_BYTES].to_vec()
    }

    fn signed(&self, cursor: &str, filter: &str) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        mac.update(&(filter.len() as u64).to_be_bytes());
        mac.update(filter.as_bytes());
        mac.update(cursor.as_bytes());
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_opens_for_its_own_filter_only() {
        let key = PageKey::new(&SecretString::from("secret"));
        let first = key.page(2, "", "team=a").unwrap();
        let mut rows = vec!["x", "y", "z"];
        let token = key.next(&first, &mut rows, |row| (*row).to_owned());
        assert_eq!(rows, ["x", "y"]);
        assert_eq!(key.page(2, &token, "team=a").unwrap().cursor.as_deref(), Some("y"));
        assert_eq!(key.page(2, &token, "team=b"), Err(PageError::Token));
        assert_eq!(key.page(2, &token[1..], "team=a"), Err(PageError::Token));
        assert_eq!(
            PageKey::new(&SecretString::from("other")).page(2, &token, "team=a"),
            Err(PageError::Token)
        );
    }

    #[test]
    fn a_page_ends_before_it_outgrows_a_message_and_goes_on_behind_its_last_row() {
        let key = PageKey::new(&SecretString::from("secret"));
        let page = key.page(10, "", "").unwrap();
        let read = |mut rows: Vec<usize>| {
            let token = key.next_sized(&page, &mut rows, |row| *row, ToString::to_string);
            let cursor = (!token.is_empty()).then(|| key.page(10, &token, "").unwrap().cursor.unwrap());
            (rows, cursor)
        };
        assert_eq!(read(vec![MAX_BYTES - 5, 5, 1]), (vec![MAX_BYTES - 5, 5], Some("5".to_owned())));
        assert_eq!(read(vec![MAX_BYTES + 1, 7]), (vec![MAX_BYTES + 1], Some((MAX_BYTES + 1).to_string())));
        assert_eq!(read(vec![1, 2]), (vec![1, 2], None));
        assert_eq!(read(vec![]), (vec![], None));
    }

    #[test]
    fn a_page_that_is_not_full_can_go_on_where_its_reader_says() {
        let key = PageKey::new(&SecretString::from("secret"));
        let token = key.next_at(&key.page(10, "", "team=a").unwrap(), "x");
        assert_eq!(key.page(10, &token, "team=a").unwrap().cursor.as_deref(), Some("x"));
        assert_eq!(key.page(10, &token, "team=b"), Err(PageError::Token));
    }

    #[test]
    fn sizes_are_checked_and_the_last_page_has_no_token() {
        let key = PageKey::new(&SecretString::from("secret"));
        assert_eq!(key.page(0, "", "").unwrap().size, 50);
        assert_eq!(key.page(-1, "", ""), Err(PageError::Size(-1)));
        assert_eq!(key.page(1_001, "", ""), Err(PageError::Size(1_001)));
        let page = key.page(1_000, "", "").unwrap();
        assert_eq!(key.next(&page, &mut vec![1, 2], ToString::to_string), "");
    }
}
