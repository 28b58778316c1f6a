//! The hours of the week in which a grant allows calls, by the wall clock of a time zone: what its clocks show decides,
//! so that changes to and from summer time need no rule of their own. Pure; never asks what time it is.

use chrono::{
    DateTime, Datelike, Days, NaiveDate, NaiveDateTime, TimeDelta, TimeZone, Timelike, Utc, Weekday,
};
use chrono_tz::Tz;
use proto::permissions::v1::{self as wire, DayOfWeek};
use serde::{Deserialize, Serialize};

use crate::Error;

/// Most windows of one grant.
const MAX_WINDOWS: usize = 50;
/// Minutes of a day.
const DAY: u16 = 24 * 60;
/// Days that are looked at for the next window: each begins on one day of the week at least.
const AHEAD: u64 = 8;
/// Names of the days as they are told, Monday first.
const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

/// When calls are allowed: in any of the windows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hours {
    zone: Tz,
    windows: Vec<Window>,
}

/// Minutes after midnight, on the days on which it begins: 0 is Monday. One that ends before it begins ends on the
/// next day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Window {
    days: Vec<u8>,
    start: u16,
    end: u16,
}

impl Hours {
    /// Takes hours from the wire. `field` is their name, for errors.
    pub(crate) fn parse(field: &str, hours: wire::AllowedHours) -> Result<Self, Error> {
        let zone: Tz = hours.time_zone.parse().map_err(|_| {
            let description =
                format!("{:?} is no time zone of the IANA database; such as Europe/Berlin", hours.time_zone);
            Error::invalid(format!("{field}.time_zone"), description)
        })?;
        let count = hours.windows.len();
        if count == 0 || count > MAX_WINDOWS {
            let description =
                format!("has {count} windows; it must have 1 to {MAX_WINDOWS}, or leave hours unset");
            return Err(Error::invalid(format!("{field}.windows"), description));
        }
        let windows = hours.windows.into_iter().enumerate();
        let windows = windows.map(|(at, window)| Window::parse(&format!("{field}.windows[{at}]"), &window));
        Ok(Self { zone, windows: windows.collect::<Result<_, _>>()? })
    }

    /// The hours as they are told.
    pub(crate) fn to_wire(&self) -> wire::AllowedHours {
        let windows = self.windows.iter().map(Window::to_wire).collect();
        wire::AllowedHours { time_zone: self.zone.name().to_owned(), windows }
    }

    /// Whether a call is allowed at this time.
    pub(crate) fn contain(&self, at: DateTime<Utc>) -> bool {
        let local = at.with_timezone(&self.zone).naive_local();
        self.windows.iter().any(|window| window.contains(local))
    }

    /// When the next window opens after a time in none; `None` if no clock of the zone shows it soon.
    pub(crate) fn next_start(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let today = after.with_timezone(&self.zone).date_naive();
        let days = (0..=AHEAD).filter_map(|days| today.checked_add_days(Days::new(days)));
        let starts = days.flat_map(|day| self.windows.iter().filter_map(move |window| window.starts_on(day)));
        let starts = starts.filter_map(|start| self.first_after(start));
        starts.filter(|start| *start > after && self.contain(*start)).min()
    }

    /// The first moment at which the zone's clocks show this time, or the time after a gap that skips it.
    fn first_after(&self, local: NaiveDateTime) -> Option<DateTime<Utc>> {
        let minutes = (0..=DAY).map(|minute| local + TimeDelta::minutes(minute.into()));
        let mut shown = minutes.filter_map(|local| self.zone.from_local_datetime(&local).earliest());
        shown.next().map(|at| at.with_timezone(&Utc))
    }

    /// Such as "Mon-Fri 09:00-17:00 Europe/Berlin".
    pub(crate) fn told(&self) -> String {
        let windows: Vec<String> = self.windows.iter().map(Window::told).collect();
        format!("{} {}", windows.join(", "), self.zone.name())
    }
}

impl Window {
    fn parse(field: &str, window: &wire::HoursWindow) -> Result<Self, Error> {
        let mut days = Vec::new();
        for (at, day) in window.days.iter().enumerate() {
            let field = format!("{field}.days[{at}]");
            let known = DayOfWeek::try_from(*day).ok().filter(|day| *day != DayOfWeek::Unspecified);
            let day = known.ok_or_else(|| Error::invalid(&field, "is no day of the week"))?;
            // Monday is 1 on the wire.
            let day = u8::try_from(day as i32 - 1).unwrap_or(0);
            if days.contains(&day) {
                return Err(Error::invalid(field, "is there twice; name each day once"));
            }
            days.push(day);
        }
        days.sort_unstable();
        let start = minute(&format!("{field}.start"), &window.start, 0, DAY - 1)?;
        let end = minute(&format!("{field}.end"), &window.end, 1, DAY)?;
        if start == end {
            let description = "is the start; a window that never ends is 00:00 to 24:00";
            return Err(Error::invalid(format!("{field}.end"), description));
        }
        Ok(Self { days, start, end })
    }

    fn to_wire(&self) -> wire::HoursWindow {
        wire::HoursWindow {
            days: self.days.iter().map(|day| i32::from(*day) + 1).collect(),
            start: clock(self.start),
            end: clock(self.end),
        }
    }

    fn begins_on(&self, day: Weekday) -> bool {
        self.days.is_empty()
            || self.days.iter().any(|begins| u32::from(*begins) == day.num_days_from_monday())
    }

    fn starts_on(&self, day: NaiveDate) -> Option<NaiveDateTime> {
        let start = day.and_hms_opt(u32::from(self.start / 60), u32::from(self.start % 60), 0);
        start.filter(|_| self.begins_on(day.weekday()))
    }

    fn contains(&self, local: NaiveDateTime) -> bool {
        let (day, minute) = (local.weekday(), local.hour() * 60 + local.minute());
        let (start, end) = (u32::from(self.start), u32::from(self.end));
        if start < end {
            return self.begins_on(day) && (start..end).contains(&minute);
        }
        (self.begins_on(day) && minute >= start) || (self.begins_on(day.pred()) && minute < end)
    }

    fn told(&self) -> String {
        let mut days: Vec<String> = Vec::new();
        let mut rest = self.days.as_slice();
        while let Some(&first) = rest.first() {
            let run = rest.iter().zip(first..).take_while(|(day, next)| *day == next).count();
            let name = |day: u8| DAYS[usize::from(day) % DAYS.len()];
            let last = rest[run - 1];
            days.push(match run {
                1 => name(first).to_owned(),
                2 => format!("{},{}", name(first), name(last)),
                _ => format!("{}-{}", name(first), name(last)),
            });
            rest = &rest[run..];
        }
        let days = if days.is_empty() { "daily".to_owned() } else { days.join(",") };
        format!("{days} {}-{}", clock(self.start), clock(self.end))
    }
}

/// "HH:MM" as minutes after midnight.
fn minute(field: &str, text: &str, least: u16, most: u16) -> Result<u16, Error> {
    let read = || {
        let (hour, minute) = text.split_once(':')?;
        let two = |digits: &str| digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_digit());
        if !two(hour) || !two(minute) {
            return None;
        }
        let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
        Some(hour * 60 + minute).filter(|at| minute < 60 && (least..=most).contains(at))
    };
    read().ok_or_else(|| {
        let description =
            format!("{text:?} is no time of day; write HH:MM, {} to {}", clock(least), clock(most));
        Error::invalid(field, description)
    })
}

fn clock(minute: u16) -> String {
    format!("{:02}:{:02}", minute / 60, minute % 60)
}

#[cfg(test)]
mod tests;
