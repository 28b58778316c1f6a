//! Wall clocks of a few zones from 2024 to 2028, by their laws and not by a database.

use super::SECOND;

const MINUTE: i64 = 60 * SECOND;
const DAY: i64 = 24 * 60 * MINUTE;

/// A zone: minutes east of UTC, and when another offset applies.
#[derive(Debug, Clone, Copy)]
pub(super) struct Zone {
    standard: i64,
    summer: Option<Summer>,
}

/// Summer time: from one Sunday at a time of day (UTC) to another.
#[derive(Debug, Clone, Copy)]
struct Summer {
    offset: i64,
    begins: Turn,
    ends: Turn,
}

/// The nth Sunday of a month, or the last (0), and the minutes (UTC) from its midnight; those before it are negative.
#[derive(Debug, Clone, Copy)]
struct Turn {
    month: i64,
    nth: i64,
    minutes: i64,
}

pub(super) const NAMES: [&str; 5] =
    ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"];

impl Zone {
    pub(super) fn of(name: &str) -> Option<Self> {
        let turn = |month, nth, minutes| Turn { month, nth, minutes };
        let zone = |standard, summer| Some(Self { standard, summer });
        match name {
            "UTC" => zone(0, None),
            "Asia/Kolkata" => zone(330, None),
            // Last Sundays of March and October, at 01:00 UTC.
            "Europe/Berlin" => {
                zone(60, Some(Summer { offset: 120, begins: turn(3, 0, 60), ends: turn(10, 0, 60) }))
            }
            // Second Sunday of March and first of November, at 02:00 by the clock.
            "America/New_York" => {
                zone(-300, Some(Summer { offset: -240, begins: turn(3, 2, 420), ends: turn(11, 1, 360) }))
            }
            // First Sundays of October and April, at 02:00 by the clock; half an hour.
            "Australia/Lord_Howe" => {
                zone(630, Some(Summer { offset: 660, begins: turn(10, 1, -510), ends: turn(4, 1, -540) }))
            }
            _ => None,
        }
    }

    /// Day of the week (1 is Monday) and minutes since midnight, by the wall clock.
    pub(super) fn wall_clock(self, now: i64) -> (i32, i64) {
        let local = now + self.offset(now) * MINUTE;
        // 1970 began on a Thursday.
        let weekday = (local.div_euclid(DAY) + 3).rem_euclid(7) + 1;
        (i32::try_from(weekday).unwrap(), local.rem_euclid(DAY) / MINUTE)
    }

    fn offset(self, now: i64) -> i64 {
        let Some(summer) = self.summer else { return self.standard };
        let year = year_of(now);
        let (begins, ends) = (summer.begins.at(year), summer.ends.at(year));
        let is_summer =
            if begins < ends { (begins..ends).contains(&now) } else { now >= begins || now < ends };
        if is_summer { summer.offset } else { self.standard }
    }

    /// The turns of a year.
    pub(super) fn turns(self, year: i64) -> Vec<i64> {
        self.summer.iter().flat_map(|summer| [summer.begins.at(year), summer.ends.at(year)]).collect()
    }
}

impl Turn {
    fn at(self, year: i64) -> i64 {
        let sunday = |day: i64| (day + 4).rem_euclid(7) == 0;
        let day = if self.nth == 0 {
            let last = days_before(year, self.month + 1) - 1;
            (0..7).map(|back| last - back).find(|&day| sunday(day)).unwrap()
        } else {
            let first = days_before(year, self.month);
            (0..7).map(|on| first + on).find(|&day| sunday(day)).unwrap() + 7 * (self.nth - 1)
        };
        day * DAY + self.minutes * MINUTE
    }
}

/// Days from 1970 to the first of a month; the thirteenth is the next January.
fn days_before(year: i64, month: i64) -> i64 {
    let years: i64 = (1970..year).map(|year| 365 + i64::from(is_leap(year))).sum();
    let lengths = [31, 28 + i64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    years + lengths.iter().take(usize::try_from(month - 1).unwrap()).sum::<i64>()
}

fn is_leap(year: i64) -> bool {
    (year % 4 == 0 && year % 100 != 0) || year % 400 == 0
}

fn year_of(now: i64) -> i64 {
    let day = now.div_euclid(DAY);
    (1970..2100).find(|&year| days_before(year + 1, 1) > day).unwrap()
}

#[test]
fn the_turns_are_those_of_the_almanac() {
    let utc = |text: &str| text.parse::<chrono::DateTime<chrono::Utc>>().unwrap().timestamp_micros();
    for (zone, begins, ends) in [
        ("Europe/Berlin", "2026-03-29T01:00:00Z", "2026-10-25T01:00:00Z"),
        ("America/New_York", "2026-03-08T07:00:00Z", "2026-11-01T06:00:00Z"),
        ("Australia/Lord_Howe", "2026-10-03T15:30:00Z", "2026-04-04T15:00:00Z"),
    ] {
        assert_eq!(Zone::of(zone).unwrap().turns(2026), [utc(begins), utc(ends)], "{zone}");
    }
    let clock = |zone: &str, at: &str| Zone::of(zone).unwrap().wall_clock(utc(at));
    assert_eq!(clock("UTC", "2026-11-23T12:30:00Z"), (1, 750));
    assert_eq!(clock("Europe/Berlin", "2026-03-29T00:59:59Z"), (7, 119));
    assert_eq!(clock("Europe/Berlin", "2026-03-29T01:00:00Z"), (7, 180));
    assert_eq!(clock("Australia/Lord_Howe", "2026-10-03T15:30:00Z"), (7, 150));
    assert_eq!(clock("Asia/Kolkata", "2026-11-22T18:30:00Z"), (1, 0));
}
