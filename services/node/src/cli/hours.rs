//! Hours of the week as people write and read them: `Mon-Fri 09:00-17:00 Europe/Berlin`. What is written is what is
//! shown. The server has the last word on what is valid.

use proto::permissions::v1::{AllowedHours, HoursWindow};

/// For the help of whatever takes hours.
pub const HELP: &str = "Hours: days, from-to, time zone; to an earlier time is on the next day
  Mon-Fri 09:00-17:00 Europe/Berlin
  Sat,Sun 22:00-06:00 America/New_York
  daily 00:00-24:00 UTC";

/// Monday is 1.
const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

/// One window and its time zone.
#[derive(Debug, Clone, PartialEq)]
pub struct Window {
    zone: String,
    window: HoursWindow,
}

/// Reads a window.
pub fn parse(text: &str) -> Result<Window, String> {
    let wrong = || format!("{text:?} is no window; write one like: Mon-Fri 09:00-17:00 Europe/Berlin");
    let words: Vec<&str> = text.split_whitespace().collect();
    let [days, times, zone] = words[..] else { return Err(wrong()) };
    let (start, end) = times.split_once('-').ok_or_else(wrong)?;
    let days = if days.eq_ignore_ascii_case("daily") { Vec::new() } else { self::days(days)? };
    let window = HoursWindow { days, start: start.to_owned(), end: end.to_owned() };
    Ok(Window { zone: zone.to_owned(), window })
}

/// "Mon-Wed,Fri" as numbers.
fn days(text: &str) -> Result<Vec<i32>, String> {
    let mut days = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (day(first)?, day(last)?);
        let mut next = first;
        days.push(next);
        while next != last {
            next = next % 7 + 1;
            days.push(next);
        }
    }
    Ok(days)
}

fn day(text: &str) -> Result<i32, String> {
    let known = DAYS.iter().zip(1..).find(|(name, _)| name.eq_ignore_ascii_case(text));
    known
        .map(|(_, number)| number)
        .ok_or_else(|| format!("{text:?} is no day; there are {}, daily", DAYS.join(", ")))
}

/// Windows of one time zone as a grant has them; none: always.
pub fn of(windows: Vec<Window>) -> Result<Option<AllowedHours>, String> {
    let Some(first) = windows.first() else { return Ok(None) };
    let time_zone = first.zone.clone();
    if let Some(other) = windows.iter().find(|window| window.zone != time_zone) {
        return Err(format!("{time_zone} and {} are two time zones; a grant has one", other.zone));
    }
    let windows = windows.into_iter().map(|window| window.window).collect();
    Ok(Some(AllowedHours { time_zone, windows }))
}

/// The same as they are written.
pub fn told(hours: &AllowedHours) -> String {
    let windows: Vec<String> = hours.windows.iter().map(window_told).collect();
    format!("{} {}", windows.join(", "), hours.time_zone)
}

fn window_told(window: &HoursWindow) -> String {
    let mut days: Vec<String> = Vec::new();
    let mut rest = window.days.as_slice();
    while let Some(&first) = rest.first() {
        let run = rest.iter().zip(first..).take_while(|(day, next)| *day == next).count().max(1);
        let name =
            |day: i32| usize::try_from(day - 1).ok().and_then(|day| DAYS.get(day)).copied().unwrap_or("?");
        let last = name(rest[run - 1]);
        days.push(match run {
            1 => last.to_owned(),
            2 => format!("{},{last}", name(first)),
            _ => format!("{}-{last}", name(first)),
        });
        rest = &rest[run..];
    }
    let days = if days.is_empty() { "daily".to_owned() } else { days.join(",") };
    format!("{days} {}-{}", window.start, window.end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_is_shown() {
        for text in [
            "Mon-Fri 09:00-17:00 Europe/Berlin",
            "Sat,Sun 22:00-06:00 America/New_York",
            "Mon,Wed,Fri 00:00-24:00 UTC",
            "daily 08:00-09:00 Australia/Lord_Howe",
        ] {
            let hours = of(vec![parse(text).unwrap()]).unwrap().unwrap();
            assert_eq!(told(&hours), text);
        }
        let two = ["Mon-Fri 09:00-17:00 UTC", "Sat 10:00-12:00 UTC"].map(|text| parse(text).unwrap());
        let hours = of(two.into()).unwrap().unwrap();
        assert_eq!(told(&hours), "Mon-Fri 09:00-17:00, Sat 10:00-12:00 UTC");
        let over = parse("fri-mon 09:00-17:00 UTC").unwrap();
        assert_eq!(over.window.days, [5, 6, 7, 1]);
        assert_eq!(of(Vec::new()), Ok(None));
        assert!(HELP.lines().skip(1).all(|line| parse(line).is_ok()));
    }

    #[test]
    fn what_makes_no_sense_says_what_would() {
        for (text, said) in [
            ("", "write one like"),
            ("Mon-Fri 09:00-17:00", "write one like"),
            ("Mon-Fri 09:00 UTC", "write one like"),
            ("Mo-Fr 09:00-17:00 UTC", "no day"),
            ("Mon- 09:00-17:00 UTC", "no day"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(said), "{text:?}: {error}");
        }
        let two = ["Mon 09:00-17:00 UTC", "Tue 09:00-17:00 Europe/Berlin"].map(|text| parse(text).unwrap());
        assert!(of(two.into()).unwrap_err().contains("two time zones"));
    }
}
