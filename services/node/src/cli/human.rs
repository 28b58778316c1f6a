//! Times, durations, costs and scores as people read and write them.
//!
//! Pure: the present is an argument.

use chrono::{DateTime, Local, TimeDelta, Utc};
use prost_types::Timestamp;

const SECOND_MS: f64 = 1_000.0;
const MINUTE_MS: f64 = 60_000.0;

/// Milliseconds as "0.4ms", "12ms", "1.2s" or "2m05s".
pub fn duration(ms: f64) -> String {
    match ms {
        ms if ms <= 0.0 => "0ms".into(),
        ms if ms < 9.95 => format!("{ms:.1}ms"),
        ms if ms < 999.5 => format!("{ms:.0}ms"),
        ms if ms < 59_950.0 => format!("{:.1}s", ms / SECOND_MS),
        ms => {
            let seconds = ((ms % MINUTE_MS) / SECOND_MS).floor();
            format!("{:.0}m{seconds:02.0}s", (ms / MINUTE_MS).floor())
        }
    }
}

/// Millionths of a US dollar as "$0.0005"; at least cents, nothing as "$0".
pub fn cost(micro_usd: i64) -> String {
    if micro_usd == 0 {
        return "$0".into();
    }
    let sign = if micro_usd < 0 { "-" } else { "" };
    let micro = micro_usd.unsigned_abs();
    let fraction = format!("{:06}", micro % 1_000_000);
    let kept = fraction.trim_end_matches('0').len().max(2);
    format!("{sign}${}.{}", micro / 1_000_000, &fraction[..kept])
}

/// Dollars, such as "0.01" or "$0.01", as millionths.
pub fn parse_cost(text: &str) -> Result<i64, String> {
    let wrong = || format!("{text:?} is no amount of dollars, such as 0.01");
    let number = text.strip_prefix('$').unwrap_or(text);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let is_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if fraction.len() > 6 || !is_digits(whole) || !is_digits(fraction) || whole.len() + fraction.len() == 0 {
        return Err(wrong());
    }
    let whole: i64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| wrong())? };
    let fraction: i64 = format!("{fraction:0<6}").parse().map_err(|_| wrong())?;
    whole.checked_mul(1_000_000).and_then(|micro| micro.checked_add(fraction)).ok_or_else(wrong)
}

/// A moment: "12s ago", "in 3d", or a local date when it is further away than a week; "-" when unset.
pub fn moment(time: Option<&Timestamp>, now: DateTime<Utc>) -> String {
    let Some(time) = time.and_then(from_wire) else { return "-".into() };
    let away = (now - time).num_seconds();
    let distance = match away.abs() {
        0..=1 => return "now".into(),
        seconds @ 2..=59 => format!("{seconds}s"),
        seconds @ 60..=3_599 => format!("{}m", seconds / 60),
        seconds @ 3_600..=86_399 => format!("{}h", seconds / 3_600),
        seconds @ 86_400..=604_799 => format!("{}d", seconds / 86_400),
        _ => return time.with_timezone(&Local).format("%Y-%m-%d %H:%M").to_string(),
    };
    if away < 0 { format!("in {distance}") } else { format!("{distance} ago") }
}

/// A moment in full, in local time, with its distance.
pub fn moment_in_full(time: Option<&Timestamp>, now: DateTime<Utc>) -> String {
    let Some(at) = time.and_then(from_wire) else { return "-".into() };
    let local = at.with_timezone(&Local).format("%Y-%m-%d %H:%M:%S%.3f %:z");
    format!("{local}  ({})", moment(time, now))
}

/// The wire's time as chrono's.
pub fn from_wire(time: &Timestamp) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(time.seconds, u32::try_from(time.nanos).ok()?)
}

/// Chrono's time as the wire's.
pub fn to_wire(time: DateTime<Utc>) -> Timestamp {
    // Below 2 * 10^9 even in a leap second, which fits.
    let nanos = i32::try_from(time.timestamp_subsec_nanos().min(999_999_999)).unwrap_or_default();
    Timestamp { seconds: time.timestamp(), nanos }
}

/// A length of time, such as "90s", "15m", "1h30m", "7d" or "2w".
pub fn parse_length(text: &str) -> Result<TimeDelta, String> {
    let wrong = || format!("{text:?} is no length of time, such as 90s, 15m, 1h30m, 7d or 2w");
    let (mut total, mut digits) = (TimeDelta::zero(), String::new());
    for c in text.chars() {
        if c.is_ascii_digit() {
            digits.push(c);
            continue;
        }
        let seconds: i64 = match c {
            's' => 1,
            'm' => 60,
            'h' => 3_600,
            'd' => 86_400,
            'w' => 604_800,
            _ => return Err(wrong()),
        };
        let count: i64 = digits.parse().map_err(|_| wrong())?;
        let part = count.checked_mul(seconds).and_then(TimeDelta::try_seconds).ok_or_else(wrong)?;
        total = total.checked_add(&part).ok_or_else(wrong)?;
        digits.clear();
    }
    if digits.is_empty() && total > TimeDelta::zero() { Ok(total) } else { Err(wrong()) }
}

/// A length of time, in whole seconds.
pub fn parse_seconds(text: &str) -> Result<i64, String> {
    Ok(parse_length(text)?.num_seconds())
}

/// RFC 3339, or how long ago.
pub fn parse_past(text: &str, now: DateTime<Utc>) -> Result<DateTime<Utc>, String> {
    parse_moment(text, |length| now.checked_sub_signed(length))
}

/// RFC 3339, or how long from now.
pub fn parse_future(text: &str, now: DateTime<Utc>) -> Result<DateTime<Utc>, String> {
    parse_moment(text, |length| now.checked_add_signed(length))
}

fn parse_moment(
    text: &str,
    apply: impl FnOnce(TimeDelta) -> Option<DateTime<Utc>>,
) -> Result<DateTime<Utc>, String> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(time.to_utc());
    }
    let wrong =
        || format!("{text:?} is neither a length such as 1h or 7d nor a time such as 2026-01-31T09:00:00Z");
    let length = parse_length(text).map_err(|_| wrong())?;
    apply(length).ok_or_else(wrong)
}

/// A score from 0 to 1 as a bar of `cells` characters, exact to an eighth of one.
pub fn bar(score: f64, cells: u8) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let wanted = (score.clamp(0.0, 1.0) * f64::from(cells) * 8.0).round();
    // NaN fills nothing.
    let eighths = (0..=u16::from(cells) * 8).rev().find(|&n| f64::from(n) <= wanted).unwrap_or(0);
    let full = usize::from(eighths / 8);
    let part = EIGHTHS[usize::from(eighths % 8)];
    let used = full + usize::from(!part.is_empty());
    format!("{}{part}{}", "█".repeat(full), "·".repeat(usize::from(cells) - used))
}

/// The first sentence or line, at most `characters` long.
pub fn brief(text: &str, characters: usize) -> String {
    let line = text.trim().lines().next().unwrap_or_default();
    let sentence = line.find(". ").map_or(line, |end| &line[..=end]);
    clip(sentence.trim_end_matches('.'), characters)
}

/// At most `characters` of a text on one line, with an ellipsis where it was cut.
pub fn clip(text: &str, characters: usize) -> String {
    let text = &text.split_whitespace().collect::<Vec<_>>().join(" ");
    match text.char_indices().nth(characters) {
        Some(_) => text.chars().take(characters.saturating_sub(1)).chain(['…']).collect(),
        None => text.to_owned(),
    }
}

/// The text with control characters replaced, except line feeds and tabs, and with hidden ones written out: names
/// and results come from others, who must not steer the terminal, nor hide words from who reads them.
pub fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\t' => out.push(c),
            _ if c.is_control() => out.push('\u{fffd}'),
            _ if types::is_hidden(c) => out.extend(c.escape_unicode()),
            _ => out.push(c),
        }
    }
    out
}

/// The same, except that colours stay.
pub fn visible_but_colours(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for (nth, part) in text.split("\x1b[").enumerate() {
        let digits = part.bytes().take_while(u8::is_ascii_digit).count();
        let is_colour = part[digits..].starts_with('m');
        if nth > 0 {
            out.push_str(if is_colour { "\x1b[" } else { "\u{fffd}[" });
        }
        out.push_str(&visible(part));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> DateTime<Utc> {
        DateTime::parse_from_rfc3339("2026-11-22T12:00:00Z").unwrap().to_utc()
    }

    #[test]
    fn durations_read_well_at_every_size() {
        let cases = [
            (0.0, "0ms"),
            (0.42, "0.4ms"),
            (9.96, "10ms"),
            (12.4, "12ms"),
            (999.6, "1.0s"),
            (1_240.0, "1.2s"),
            (59_960.0, "0m59s"),
            (125_000.0, "2m05s"),
        ];
        for (ms, text) in cases {
            assert_eq!(duration(ms), text, "{ms}");
        }
    }

    #[test]
    fn costs_are_exact_both_ways() {
        for (micro, text) in
            [(0, "$0"), (500, "$0.0005"), (1_500_000, "$1.50"), (1, "$0.000001"), (10_000, "$0.01")]
        {
            assert_eq!(cost(micro), text);
            assert_eq!(parse_cost(text), Ok(micro));
        }
        assert_eq!(parse_cost(".5"), Ok(500_000));
        for wrong in ["", "$", ".", "1.0000001", "-1", "1e3", "99999999999999999"] {
            assert!(parse_cost(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn moments_are_relative_when_near_and_dates_when_far() {
        let at = |seconds: i64| Some(Timestamp { seconds: now().timestamp() - seconds, nanos: 0 });
        assert_eq!(moment(at(12).as_ref(), now()), "12s ago");
        assert_eq!(moment(at(-7_200).as_ref(), now()), "in 2h");
        assert_eq!(moment(at(86_400 * 3).as_ref(), now()), "3d ago");
        assert_eq!(moment(at(0).as_ref(), now()), "now");
        assert!(moment(at(86_400 * 30).as_ref(), now()).starts_with("2026-10-2"));
        assert_eq!(moment(None, now()), "-");
    }

    #[test]
    fn lengths_and_times_are_read() {
        assert_eq!(parse_seconds("1h30m"), Ok(5_400));
        assert_eq!(parse_seconds("2w"), Ok(1_209_600));
        for wrong in ["", "h", "10", "1x", "0s", "-1h", "99999999999999999999s", "9223372036854775807w"] {
            assert!(parse_seconds(wrong).is_err(), "{wrong}");
        }
        assert_eq!(parse_past("1h", now()).unwrap(), now() - TimeDelta::hours(1));
        assert_eq!(parse_future("7d", now()).unwrap(), now() + TimeDelta::days(7));
        assert_eq!(parse_past("2026-11-22T13:00:00+01:00", now()).unwrap(), now());
        assert!(parse_past("yesterday", now()).unwrap_err().contains("1h"));
        assert_eq!(from_wire(&to_wire(now())), Some(now()));
    }

    #[test]
    fn a_bar_is_as_long_as_its_score() {
        assert_eq!(bar(0.0, 4), "····");
        assert_eq!(bar(1.0, 4), "████");
        assert_eq!(bar(0.5, 4), "██··");
        assert_eq!(bar(0.53, 4), "██▏·");
        assert_eq!(bar(7.0, 4), "████");
        assert_eq!(bar(f64::NAN, 4), "····");
        assert!((0..=100).all(|n| bar(f64::from(n) / 100.0, 10).chars().count() == 10));
    }

    #[test]
    fn what_others_wrote_cannot_steer_the_terminal() {
        assert_eq!(visible("a\x1b[2Jb\r\n\tc\u{9b}"), "a\u{fffd}[2Jb\u{fffd}\n\tc\u{fffd}");
        assert_eq!(visible("a\u{e0041}b\u{202e}c 🦀"), "a\\u{e0041}b\\u{202e}c 🦀");
        assert_eq!(
            visible_but_colours("\x1b[31mred\x1b[0m\x1b[2J\x1b]0;x"),
            "\x1b[31mred\x1b[0m\u{fffd}[2J\u{fffd}]0;x"
        );
    }

    #[test]
    fn a_brief_text_is_its_first_sentence() {
        assert_eq!(brief("Reads a file. Then more.\nAnd more", 40), "Reads a file");
        assert_eq!(brief("Version 1.5 of it", 40), "Version 1.5 of it");
        assert_eq!(brief("ééééé", 4), "ééé…");
    }
}
