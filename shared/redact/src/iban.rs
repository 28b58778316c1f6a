//! Bank accounts: international numbers, by country, length and check. Must never take a number that fails its check.

use crate::{config::Detector, look::ALNUM, scan::Scan};

/// Lengths by country of the IBAN registry (SWIFT, ISO 13616).
const IBAN: [(&[u8; 2], usize); 89] = [
    (b"AD", 24),
    (b"AE", 23),
    (b"AL", 28),
    (b"AT", 20),
    (b"AZ", 28),
    (b"BA", 20),
    (b"BE", 16),
    (b"BG", 22),
    (b"BH", 22),
    (b"BI", 27),
    (b"BR", 29),
    (b"BY", 28),
    (b"CH", 21),
    (b"CR", 22),
    (b"CY", 28),
    (b"CZ", 24),
    (b"DE", 22),
    (b"DJ", 27),
    (b"DK", 18),
    (b"DO", 28),
    (b"EE", 20),
    (b"EG", 29),
    (b"ES", 24),
    (b"FI", 18),
    (b"FK", 18),
    (b"FO", 18),
    (b"FR", 27),
    (b"GB", 22),
    (b"GE", 22),
    (b"GI", 23),
    (b"GL", 18),
    (b"GR", 27),
    (b"GT", 28),
    (b"HN", 28),
    (b"HR", 21),
    (b"HU", 28),
    (b"IE", 22),
    (b"IL", 23),
    (b"IQ", 23),
    (b"IS", 26),
    (b"IT", 27),
    (b"JO", 30),
    (b"KW", 30),
    (b"KZ", 20),
    (b"LB", 28),
    (b"LC", 32),
    (b"LI", 21),
    (b"LT", 20),
    (b"LU", 20),
    (b"LV", 21),
    (b"LY", 25),
    (b"MC", 27),
    (b"MD", 24),
    (b"ME", 22),
    (b"MK", 19),
    (b"MN", 20),
    (b"MR", 27),
    (b"MT", 31),
    (b"MU", 30),
    (b"NI", 28),
    (b"NL", 18),
    (b"NO", 15),
    (b"OM", 23),
    (b"PK", 24),
    (b"PL", 28),
    (b"PS", 29),
    (b"PT", 25),
    (b"QA", 29),
    (b"RO", 24),
    (b"RS", 22),
    (b"RU", 33),
    (b"SA", 24),
    (b"SC", 31),
    (b"SD", 18),
    (b"SE", 24),
    (b"SI", 19),
    (b"SK", 24),
    (b"SM", 27),
    (b"SO", 23),
    (b"ST", 25),
    (b"SV", 28),
    (b"TL", 23),
    (b"TN", 24),
    (b"TR", 26),
    (b"UA", 29),
    (b"VA", 22),
    (b"VG", 24),
    (b"XK", 20),
    (b"YE", 30),
];

/// An international bank account number: two letters before the digits, the country's length, and its check.
pub(crate) fn iban(scan: &mut Scan<'_>, begins: usize) -> bool {
    let look = &scan.look;
    if begins < 2 || !look.bytes[begins - 1].is_ascii_alphabetic() || !scan.is_on(Detector::Iban) {
        return false;
    }
    let country = [look.before(begins - 1).to_ascii_uppercase(), look.before(begins).to_ascii_uppercase()];
    let Ok(known) = IBAN.binary_search_by(|(known, _)| (*known).cmp(&country)) else { return false };
    if !look.opens(begins - 2) {
        return false;
    }
    let (mut remainder, mut count, mut at) = (Remainder(0), 0, begins + 2);
    let length = IBAN[known].1;
    while count < length - 4 {
        match look.at(at) {
            byte if byte.is_ascii_alphanumeric() => {
                remainder.take(byte);
                count += 1;
            }
            b' ' | b'-' if ALNUM.has(look.before(at)) => {}
            _ => return false,
        }
        at += 1;
    }
    let check = [look.at(begins), look.at(begins + 1)];
    country.iter().chain(&check).for_each(|byte| remainder.take(*byte));
    if remainder.0 != 1 || !look.closes(at) {
        return false;
    }
    scan.found(begins - 2, at, "iban");
    true
}

/// What is left of a number by 97 (ISO 7064, MOD 97-10): letters count from 10.
struct Remainder(u32);

impl Remainder {
    fn take(&mut self, byte: u8) {
        self.0 = match char::from(byte).to_digit(36) {
            Some(digit) if digit < 10 => (self.0 * 10 + digit) % 97,
            Some(digit) => (self.0 * 100 + digit) % 97,
            None => self.0,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_countries_is_in_order() {
        assert!(IBAN.is_sorted_by_key(|(country, _)| *country));
    }
}
