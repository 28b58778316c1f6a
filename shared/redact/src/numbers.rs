//! Numbers of people: payment cards, bank accounts, telephones, social security. Must never take a number of another
//! kind for one: each is held to its issuer's ranges, its check digits and the ways in which people write it.

use crate::{
    config::Detector,
    iban,
    look::{ALNUM, Class, DIGIT, Look},
    scan::Scan,
};

/// Most groups of digits that are looked at together, and most digits of one.
const MAX_GROUPS: usize = 5;
const MAX_DIGITS: usize = 24;

/// What stands before a telephone number that nothing else shows to be one.
const PHONE_WORDS: [&str; 9] =
    ["phone", "tel", "telephone", "mobile", "fax", "sms", "whatsapp", "telefon", "msisdn"];
/// The same of a social security number.
const SSN_WORDS: [&str; 3] = ["ssn", "social security", "ss#"];
/// Words between those and the number.
const BETWEEN: [&str; 5] = ["number", "no", "nr", "num", "is"];

/// Groups of digits that stand together.
struct Groups {
    /// Where each begins, and its length.
    each: [(usize, usize); MAX_GROUPS],
    count: usize,
    /// What stands between them; 0 where it differs.
    between: u8,
}

impl Groups {
    fn lengths<const N: usize>(&self) -> Option<[usize; N]> {
        let of = |index: usize| self.each[index].1;
        (self.count >= N).then(|| std::array::from_fn(of))
    }

    fn end(&self, count: usize) -> usize {
        let (start, length) = self.each[count - 1];
        start + length
    }
}

/// A number that begins here, whatever it may be.
pub(crate) fn number(scan: &mut Scan<'_>, begins: usize) {
    if iban::iban(scan, begins) {
        return;
    }
    let look = &scan.look;
    if !look.opens(begins) {
        return;
    }
    let before = look.before(begins);
    let goes_on = begins >= 2 && DIGIT.has(look.bytes[begins - 2]);
    if matches!(before, b'.' | b',') && goes_on {
        return;
    }
    let is_tail = before == b'-' && begins >= 2 && ALNUM.has(look.bytes[begins - 2]);
    let groups = groups(look, begins);
    let _ = (scan.is_on(Detector::Card) && card(scan, begins, &groups, is_tail))
        || !is_tail && scan.is_on(Detector::Ssn) && ssn(scan, begins, &groups)
        || !is_tail && scan.is_on(Detector::Phone) && national(scan, begins, &groups);
}

fn groups(look: &Look<'_>, begins: usize) -> Groups {
    let mut groups = Groups { each: [(0, 0); MAX_GROUPS], count: 0, between: 0 };
    let mut at = begins;
    loop {
        let end = look.run(at, &DIGIT, MAX_DIGITS);
        // With a letter behind it, it is a part of something else.
        if groups.count > 0 && ALNUM.has(look.at(end)) {
            return groups;
        }
        groups.each[groups.count] = (at, end - at);
        groups.count += 1;
        let between = look.at(end);
        let is_between = matches!(between, b' ' | b'-' | b'.' | b'/') && DIGIT.has(look.at(end + 1));
        if !is_between || groups.count == MAX_GROUPS || groups.count > 1 && between != groups.between {
            return groups;
        }
        groups.between = between;
        at = end + 1;
    }
}

/// Whether nothing goes on where a number ends.
fn is_end(look: &Look<'_>, end: usize) -> bool {
    let (next, after) = (look.at(end), look.at(end + 1));
    !ALNUM.has(next) && next != b'_' && !(matches!(next, b'-' | b'.') && ALNUM.has(after))
}

/// A payment card's number: an issuer's range (ISO/IEC 7812), the ways they are printed, and Luhn's check.
fn card(scan: &mut Scan<'_>, begins: usize, groups: &Groups, is_tail: bool) -> bool {
    let first = groups.each[0].1;
    let count = match () {
        () if (13..=19).contains(&first) => 1,
        () if is_tail || !matches!(groups.between, b' ' | b'-') => return false,
        () => match (groups.lengths::<5>(), groups.lengths::<4>(), groups.lengths::<3>()) {
            (Some([4, 4, 4, 4, 1..=3]), ..)
                if is_end(&scan.look, groups.end(5)) && digits(scan, groups, 5).is_some() =>
            {
                5
            }
            (_, Some([4, 4, 4, 1 | 4]), _) => 4,
            (_, _, Some([4, 6, 4 | 5])) => 3,
            _ => return false,
        },
    };
    let end = groups.end(count);
    let is_it = is_end(&scan.look, end) && digits(scan, groups, count).is_some();
    if is_it {
        scan.found(begins, end, "card");
    }
    is_it
}

/// The digits of some groups, if they are those of a card.
fn digits(scan: &Scan<'_>, groups: &Groups, count: usize) -> Option<()> {
    let (begins, end) = (groups.each[0].0, groups.end(count));
    scan.look.worked(end - begins);
    is_card(&scan.look.bytes[begins..end]).then_some(())
}

/// Whether the digits among these bytes are a card's.
pub(crate) fn is_card(bytes: &[u8]) -> bool {
    let mut room = [0; MAX_DIGITS];
    let mut length = 0;
    for byte in bytes.iter().filter(|byte| byte.is_ascii_digit()) {
        if length == room.len() {
            return false;
        }
        room[length] = byte - b'0';
        length += 1;
    }
    let digits = &room[..length];
    is_issued(digits) && luhn(digits)
}

/// Whether the first digits are an issuer's, and there are as many as it gives out.
fn is_issued(digits: &[u8]) -> bool {
    if digits.len() < 13 {
        return false;
    }
    let first = digits[..6].iter().fold(0_u32, |number, digit| number * 10 + u32::from(*digit));
    let length = digits.len();
    match first {
        // Visa.
        400_000..=499_999 => matches!(length, 13 | 16 | 19),
        // Mastercard.
        510_000..=559_999 | 222_100..=272_099 => length == 16,
        // American Express.
        340_000..=349_999 | 370_000..=379_999 => length == 15,
        // Diners Club.
        300_000..=305_999 | 309_500..=309_599 | 360_000..=369_999 | 380_000..=399_999 => {
            (14..=19).contains(&length)
        }
        // Mir, and JCB.
        220_000..=220_499 | 352_800..=358_999 => (16..=19).contains(&length),
        // Discover, and China UnionPay.
        601_100..=601_199 | 620_000..=629_999 | 644_000..=659_999 | 810_000..=817_199 => {
            (16..=19).contains(&length)
        }
        // Maestro, and Dankort.
        501_800..=501_999
        | 502_000..=502_099
        | 503_800..=503_899
        | 508_000..=508_999
        | 589_300..=589_399
        | 630_400..=630_499
        | 675_900..=676_399 => (13..=19).contains(&length),
        _ => false,
    }
}

/// The check of ISO/IEC 7812-1, annex B. A run of one digit passes it and is no card.
fn luhn(digits: &[u8]) -> bool {
    let doubled = |place: usize, digit: u32| match (place % 2, digit * 2) {
        (0, _) => digit,
        (_, twice) if twice > 9 => twice - 9,
        (_, twice) => twice,
    };
    let sum: u32 =
        digits.iter().rev().enumerate().map(|(place, digit)| doubled(place, u32::from(*digit))).sum();
    sum.is_multiple_of(10) && digits.iter().any(|digit| *digit != digits[0])
}

/// A number of the social security of the United States: area 001 to 899 but 666, group 01 to 99, serial 0001 to 9999
/// (Social Security Administration, "Social Security Number Randomization").
fn ssn(scan: &mut Scan<'_>, begins: usize, groups: &Groups) -> bool {
    let (count, is_plain) = match groups.lengths::<3>() {
        Some([3, 2, 4]) if groups.between == b'-' => (3, true),
        Some([3, 2, 4]) if groups.between == b' ' => (3, false),
        _ if groups.each[0].1 == 9 => (1, false),
        _ => return false,
    };
    let end = groups.end(count);
    let is_it = is_end(&scan.look, end)
        && is_ssn(&scan.look.bytes[begins..end])
        && (is_plain || follows(&scan.look, begins, &SSN_WORDS));
    if is_it {
        scan.found(begins, end, "ssn");
    }
    is_it
}

fn is_ssn(bytes: &[u8]) -> bool {
    let number = bytes.iter().filter(|byte| byte.is_ascii_digit());
    let number = number.fold(0_u32, |number, digit| number * 10 + u32::from(digit - b'0'));
    let (area, group, serial) = (number / 1_000_000, number / 10_000 % 100, number % 10_000);
    (1..=899).contains(&area) && area != 666 && group != 0 && serial != 0
}

/// A telephone number as it is written within its country: in North America, France and the United Kingdom by its
/// form; elsewhere where a word before it says so.
fn national(scan: &mut Scan<'_>, begins: usize, groups: &Groups) -> bool {
    let look = &scan.look;
    let by_form = by_form(look, groups).map(|count| (begins, groups.end(count)));
    let found = by_form.or_else(|| bracketed(look, begins, groups)).or_else(|| by_word(look, begins));
    let Some((start, end)) = found.filter(|(_, end)| is_end(look, *end)) else { return false };
    scan.found(start, end, "phone");
    true
}

/// How many groups it has.
fn by_form(look: &Look<'_>, groups: &Groups) -> Option<usize> {
    let digit = |group: usize, place: usize| look.at(groups.each[group].0 + place);
    let is_code = |group: usize| digit(group, 0) >= b'2';
    // North American Numbering Plan: neither an area nor an exchange begins with 0 or 1.
    match groups.lengths::<3>() {
        Some([3, 3, 4]) if matches!(groups.between, b'-' | b'.') && is_code(0) && is_code(1) => {
            return Some(3);
        }
        _ => {}
    }
    match groups.lengths::<4>() {
        Some([1, 3, 3, 4]) if groups.between != b'/' && digit(0, 0) == b'1' && is_code(1) && is_code(2) => {
            return Some(4);
        }
        _ => {}
    }
    let is_zero = digit(0, 0) == b'0';
    match groups.lengths::<5>() {
        Some([2, 2, 2, 2, 2]) if matches!(groups.between, b' ' | b'.') && is_zero && digit(0, 1) > b'0' => {
            return Some(5);
        }
        _ => {}
    }
    let is_british = is_zero && matches!(digit(0, 1), b'1' | b'2' | b'3' | b'7') && groups.between == b' ';
    match (groups.lengths::<3>(), groups.lengths::<2>()) {
        (Some([3, 4, 4] | [4, 3, 4] | [5, 3, 3]), _) if is_british => Some(3),
        (_, Some([5, 6])) if is_british => Some(2),
        _ => None,
    }
}

/// `(212) 555-0123`.
fn bracketed(look: &Look<'_>, begins: usize, groups: &Groups) -> Option<(usize, usize)> {
    let (_, length) = groups.each[0];
    let is_area = length == 3 && look.before(begins) == b'(' && look.at(begins + 3) == b')';
    if !is_area || look.at(begins) < b'2' {
        return None;
    }
    let next = begins + 4 + usize::from(look.at(begins + 4) == b' ');
    let chain = Chain::from(look, next);
    (chain.count == 7 && chain.parts == 2 && look.at(next) >= b'2').then_some((begins - 1, chain.end))
}

fn by_word(look: &Look<'_>, begins: usize) -> Option<(usize, usize)> {
    let start = begins - usize::from(look.before(begins) == b'(');
    if !follows(look, start, &PHONE_WORDS) {
        return None;
    }
    let chain = Chain::from(look, begins);
    (7..=15).contains(&chain.count).then_some((start, chain.end))
}

/// Digits with at most two other signs between them.
struct Chain {
    digits: [u8; 16],
    count: usize,
    parts: usize,
    end: usize,
}

impl Chain {
    fn from(look: &Look<'_>, begins: usize) -> Self {
        let mut chain = Self { digits: [0; 16], count: 0, parts: 0, end: begins };
        let mut at = begins;
        while chain.count < chain.digits.len() {
            let run = look.run(at, &DIGIT, chain.digits.len() - chain.count);
            if run == at {
                break;
            }
            chain.digits[chain.count..chain.count + run - at].copy_from_slice(&look.bytes[at..run]);
            (chain.count, chain.parts, chain.end) = (chain.count + run - at, chain.parts + 1, run);
            at = look.run(run, &GAP, 2);
        }
        chain
    }
}

static GAP: Class = Class::of(b" ()./-");
static BESIDE: Class = Class::of(b" :=\"'#(_.-");

/// Whether one of these words stands before a place, perhaps with `number` or the like after it.
fn follows(look: &Look<'_>, place: usize, words: &[&str]) -> bool {
    let ends_with = |end: usize, word: &str| {
        end >= word.len() && look.says(end - word.len(), word) && !ALNUM.has(look.before(end - word.len()))
    };
    let mut end = look.back(place, &BESIDE, 4);
    if end == place || !look.before(end).is_ascii_alphabetic() {
        return false;
    }
    if let Some(between) = BETWEEN.iter().find(|between| ends_with(end, between)) {
        end = look.back(end - between.len(), &BESIDE, 3);
    }
    words.iter().any(|word| ends_with(end, word))
}

/// Calling codes that are given out (ITU-T E.164, list of country codes), by their first digits.
fn is_calling_code(digits: &[u8]) -> bool {
    let at = |place: usize| digits.get(place).copied().unwrap_or(0);
    match (at(0), at(1)) {
        (b'1' | b'4' | b'5' | b'6' | b'7', _) => true,
        (b'2', second) => second != b'8',
        (b'3', second) => second != b'8' || matches!(at(2), b'0'..=b'7' | b'9'),
        (b'8', second) => matches!(second, b'0' | b'1' | b'2' | b'4' | b'5' | b'6' | b'7' | b'8'),
        (b'9', second) => !matches!(second, b'7') || matches!(at(2), b'0'..=b'7'),
        _ => false,
    }
}

/// A telephone number with its country, ITU-T E.164: a plus sign, and 8 to 15 digits in groups.
pub(crate) fn international(scan: &mut Scan<'_>, begins: usize, ends: usize) {
    let look = &scan.look;
    if ALNUM.has(look.before(begins)) && !look.opens(begins) || !DIGIT.has(look.at(ends)) {
        return;
    }
    let chain = Chain::from(look, ends);
    let least = if chain.parts > 1 { 8 } else { 10 };
    let is_sized = (least..=15).contains(&chain.count);
    if is_sized && is_calling_code(&chain.digits) && look.closes(chain.end) {
        scan.found(begins, chain.end, "phone");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cards_pass_their_check_and_are_of_an_issuer() {
        for card in [
            "4111111111111111",
            "5555 5555 5555 4444",
            "378282246310005",
            "6011111111111117",
            "30569309025904",
        ] {
            assert!(is_card(card.as_bytes()), "{card}");
        }
        for other in [
            "4111111111111112",
            "0000000000000000",
            "1234567812345670",
            "411111111111111",
            "9999999999999995",
        ] {
            assert!(!is_card(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn social_security_has_no_number_beyond_its_ranges() {
        assert!(is_ssn(b"536-90-4399"));
        for none in ["000-12-3456", "666-12-3456", "900-12-3456", "123-00-4567", "123-45-0000"] {
            assert!(!is_ssn(none.as_bytes()), "{none}");
        }
    }
}
