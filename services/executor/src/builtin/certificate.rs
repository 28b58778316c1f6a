//! The end of a certificate's validity, read from its DER form (RFC 5280, section 4.1). Must never be taken for a check
//! of the certificate: the TLS client does that.

use chrono::{DateTime, NaiveDateTime, Utc};

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
/// The version, which old certificates have not.
const EXPLICIT_0: u8 = 0xa0;

/// When a certificate stops being valid; `None` where this is none.
pub(crate) fn not_after(der: &[u8]) -> Option<DateTime<Utc>> {
    let (certificate, _) = expect(SEQUENCE, der)?;
    let (mut signed, _) = expect(SEQUENCE, certificate)?;
    if let Some((_, rest)) = expect(EXPLICIT_0, signed) {
        signed = rest;
    }
    // Serial number, signature algorithm, issuer.
    for tag in [INTEGER, SEQUENCE, SEQUENCE] {
        signed = expect(tag, signed)?.1;
    }
    let (validity, _) = expect(SEQUENCE, signed)?;
    let (_, _, rest) = element(validity)?;
    let (tag, text, _) = element(rest)?;
    time(tag, std::str::from_utf8(text).ok()?)
}

/// Years of two digits are those from 1950 to 2049 (section 4.1.2.5.1).
fn time(tag: u8, text: &str) -> Option<DateTime<Utc>> {
    let full = match tag {
        UTC_TIME => format!("{}{text}", if text.get(..2)? < "50" { "20" } else { "19" }),
        GENERALIZED_TIME => text.to_owned(),
        _ => return None,
    };
    Some(NaiveDateTime::parse_from_str(&full, "%Y%m%d%H%M%SZ").ok()?.and_utc())
}

fn expect(tag: u8, der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (found, content, rest) = element(der)?;
    (found == tag).then_some((content, rest))
}

/// The first element: its tag, its content, and what follows.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = der.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match usize::from(*first) {
        short @ ..0x80 => (short, rest),
        long => {
            let (bytes, rest) = rest.split_at_checked(long - 0x80).filter(|(bytes, _)| bytes.len() <= 4)?;
            (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((*tag, content, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As far as it is read: version, serial number, algorithm, issuer, validity.
    fn certificate(validity: &[u8]) -> Vec<u8> {
        let wrap = |tag: u8, content: &[u8]| {
            let length = u8::try_from(content.len()).unwrap();
            let head = if length < 0x80 { vec![tag, length] } else { vec![tag, 0x81, length] };
            [&head, content].concat()
        };
        let issuer = wrap(SEQUENCE, &[0x31; 90]);
        let parts = [&[0xa0, 3, 2, 1, 2, 2, 1, 5, 0x30, 0][..], &issuer, &wrap(SEQUENCE, validity)].concat();
        wrap(SEQUENCE, &wrap(SEQUENCE, &parts))
    }

    #[test]
    fn the_end_is_read_in_both_forms_of_time_and_never_guessed() {
        let end = |validity: &[u8]| not_after(&certificate(validity)).map(|time| time.to_rfc3339());
        let before = b"\x17\x0d260101000000Z";
        let short = end(&[&before[..], b"\x17\x0d270131235959Z"].concat());
        assert_eq!(short.as_deref(), Some("2027-01-31T23:59:59+00:00"));
        let long = end(&[&before[..], b"\x18\x0f20510131235959Z"].concat());
        assert_eq!(long.as_deref(), Some("2051-01-31T23:59:59+00:00"));
        let old = end(&[&before[..], b"\x17\x0d991231235959Z"].concat());
        assert_eq!(old.as_deref(), Some("1999-12-31T23:59:59+00:00"));
        let whole = certificate(&[&before[..], b"\x17\x0d270131235959Z"].concat());
        for length in 0..whole.len() {
            assert_eq!(not_after(&whole[..length]), None, "{length}");
        }
    }
}
