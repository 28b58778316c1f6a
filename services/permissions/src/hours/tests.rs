//! Hours at each boundary: one moment before, at, and after; over midnight; and where clocks change, both ways.

use super::*;
use wire::{AllowedHours, HoursWindow};

fn window(days: &[i32], start: &str, end: &str) -> HoursWindow {
    HoursWindow { days: days.to_vec(), start: start.into(), end: end.into() }
}

fn hours(zone: &str, windows: Vec<HoursWindow>) -> Hours {
    Hours::parse("h", AllowedHours { time_zone: zone.into(), windows }).unwrap()
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// Whether it is allowed at the moment, one microsecond before it, and one after.
fn around(hours: &Hours, moment: &str) -> [bool; 3] {
    let moment = at(moment);
    let micro = TimeDelta::microseconds(1);
    [moment - micro, moment, moment + micro].map(|at| hours.contain(at))
}

const OPENS: [bool; 3] = [false, true, true];
const ENDS: [bool; 3] = [true, false, false];
const OPEN: [bool; 3] = [true; 3];
const SHUT: [bool; 3] = [false; 3];

#[test]
fn a_window_opens_at_its_start_and_ends_before_its_end_on_its_days() {
    let office = hours("Europe/Berlin", vec![window(&[1, 2, 3, 4, 5], "09:00", "17:00")]);
    // 2026-11-23 is a Monday; Berlin is an hour ahead of UTC.
    for (moment, expected) in [
        ("2026-11-23T08:00:00Z", OPENS),
        ("2026-11-23T16:00:00Z", ENDS),
        ("2026-11-23T12:00:00Z", OPEN),
        ("2026-11-27T08:00:00Z", OPENS),
        ("2026-11-28T08:00:00Z", SHUT),
        ("2026-11-29T12:00:00Z", SHUT),
        // Two hours ahead in summer.
        ("2026-07-06T07:00:00Z", OPENS),
        ("2026-07-06T15:00:00Z", ENDS),
    ] {
        assert_eq!(around(&office, moment), expected, "{moment}");
    }
    let always = hours("UTC", vec![window(&[], "00:00", "24:00")]);
    for moment in ["2026-11-23T00:00:00Z", "2026-11-23T23:59:59Z", "2028-02-29T12:00:00Z"] {
        assert_eq!(around(&always, moment), OPEN, "{moment}");
    }
    let until_midnight = hours("UTC", vec![window(&[1], "22:00", "24:00")]);
    assert_eq!(around(&until_midnight, "2026-11-23T22:00:00Z"), OPENS);
    assert_eq!(around(&until_midnight, "2026-11-24T00:00:00Z"), ENDS);
    assert_eq!(around(&until_midnight, "2026-11-23T00:00:00Z"), SHUT);
}

#[test]
fn a_window_over_midnight_begins_on_its_day() {
    let night = hours("America/New_York", vec![window(&[5], "22:00", "06:00")]);
    // Friday 2026-11-27, five hours behind UTC.
    for (moment, expected) in [
        ("2026-11-28T03:00:00Z", OPENS),
        ("2026-11-28T05:00:00Z", OPEN),
        ("2026-11-28T11:00:00Z", ENDS),
        ("2026-11-29T03:00:00Z", SHUT),
        ("2026-11-27T05:00:00Z", SHUT),
        ("2026-11-27T10:00:00Z", SHUT),
    ] {
        assert_eq!(around(&night, moment), expected, "{moment}");
    }
    let sunday = hours("UTC", vec![window(&[7], "23:59", "00:01")]);
    assert_eq!(around(&sunday, "2026-11-22T23:59:00Z"), OPENS);
    assert_eq!(around(&sunday, "2026-11-23T00:01:00Z"), ENDS);
}

#[test]
fn clocks_that_are_put_forward_skip_what_they_do_not_show() {
    // 02:00 becomes 03:00 at 01:00 UTC.
    let berlin = |start, end| hours("Europe/Berlin", vec![window(&[], start, end)]);
    assert_eq!(around(&berlin("01:30", "02:30"), "2026-03-29T01:00:00Z"), ENDS);
    assert_eq!(around(&berlin("02:15", "02:45"), "2026-03-29T01:00:00Z"), SHUT);
    assert_eq!(around(&berlin("02:30", "04:00"), "2026-03-29T01:00:00Z"), OPENS);
    assert_eq!(around(&berlin("03:00", "04:00"), "2026-03-29T01:00:00Z"), OPENS);
    assert_eq!(around(&berlin("03:00", "04:00"), "2026-03-29T02:00:00Z"), ENDS);
    // At 07:00 UTC in New York.
    let new_york = hours("America/New_York", vec![window(&[7], "02:00", "03:30")]);
    assert_eq!(around(&new_york, "2026-03-08T07:00:00Z"), OPENS);
    assert_eq!(around(&new_york, "2026-03-08T07:30:00Z"), ENDS);
    // Half an hour on Lord Howe: 02:00 becomes 02:30 at 15:30 UTC.
    let lord_howe = hours("Australia/Lord_Howe", vec![window(&[7], "02:15", "03:00")]);
    assert_eq!(around(&lord_howe, "2026-10-03T15:30:00Z"), OPENS);
    assert_eq!(around(&lord_howe, "2026-10-03T16:00:00Z"), ENDS);
    let skipped = hours("Australia/Lord_Howe", vec![window(&[7], "02:00", "02:30")]);
    assert_eq!(around(&skipped, "2026-10-03T15:30:00Z"), SHUT);
}

#[test]
fn clocks_that_are_put_back_show_a_window_twice() {
    // 03:00 becomes 02:00 at 01:00 UTC.
    let berlin = hours("Europe/Berlin", vec![window(&[], "02:00", "02:30")]);
    for (moment, expected) in [
        ("2026-10-25T00:00:00Z", OPENS),
        ("2026-10-25T00:30:00Z", ENDS),
        ("2026-10-25T01:00:00Z", OPENS),
        ("2026-10-25T01:30:00Z", ENDS),
    ] {
        assert_eq!(around(&berlin, moment), expected, "{moment}");
    }
    // 02:00 becomes 01:00 at 06:00 UTC in New York.
    let new_york = hours("America/New_York", vec![window(&[7], "01:00", "02:00")]);
    for (moment, expected) in
        [("2026-11-01T05:00:00Z", OPENS), ("2026-11-01T06:00:00Z", OPEN), ("2026-11-01T07:00:00Z", ENDS)]
    {
        assert_eq!(around(&new_york, moment), expected, "{moment}");
    }
    // 02:00 becomes 01:30 at 15:00 UTC on Lord Howe.
    let lord_howe = hours("Australia/Lord_Howe", vec![window(&[], "01:30", "01:45")]);
    for (moment, expected) in [
        ("2026-04-04T14:30:00Z", OPENS),
        ("2026-04-04T14:45:00Z", ENDS),
        ("2026-04-04T15:00:00Z", OPENS),
        ("2026-04-04T15:15:00Z", ENDS),
    ] {
        assert_eq!(around(&lord_howe, moment), expected, "{moment}");
    }
}

#[test]
fn the_next_window_is_the_first_that_the_clocks_show() {
    let office = hours("Europe/Berlin", vec![window(&[1, 2, 3, 4, 5], "09:00", "17:00")]);
    let next = |hours: &Hours, after: &str| hours.next_start(at(after));
    assert_eq!(next(&office, "2026-11-20T16:00:00Z"), Some(at("2026-11-23T08:00:00Z")));
    assert_eq!(next(&office, "2026-11-23T07:59:00Z"), Some(at("2026-11-23T08:00:00Z")));
    // The clocks change in between.
    assert_eq!(next(&office, "2026-03-27T20:00:00Z"), Some(at("2026-03-30T07:00:00Z")));
    let gap = hours("Europe/Berlin", vec![window(&[7], "02:30", "04:00")]);
    assert_eq!(next(&gap, "2026-03-28T12:00:00Z"), Some(at("2026-03-29T01:00:00Z")));
    let skipped = hours("Europe/Berlin", vec![window(&[7], "02:15", "02:45")]);
    assert_eq!(next(&skipped, "2026-03-28T12:00:00Z"), Some(at("2026-04-05T00:15:00Z")));
}

#[test]
fn hours_are_told_and_kept_as_they_were_taken() {
    let windows = vec![
        window(&[1, 2, 3, 4, 5], "09:00", "17:00"),
        window(&[6, 7], "22:00", "06:00"),
        window(&[], "00:00", "24:00"),
    ];
    let taken = hours("Europe/Berlin", windows.clone());
    assert_eq!(taken.to_wire(), AllowedHours { time_zone: "Europe/Berlin".into(), windows });
    assert_eq!(taken.told(), "Mon-Fri 09:00-17:00, Sat,Sun 22:00-06:00, daily 00:00-24:00 Europe/Berlin");
    let read: Hours = serde_json::from_value(serde_json::to_value(&taken).unwrap()).unwrap();
    assert_eq!(read, taken);
}

#[test]
fn what_makes_no_sense_is_refused_by_its_name() {
    let good = window(&[1], "09:00", "17:00");
    let of = |windows: Vec<HoursWindow>| AllowedHours { time_zone: "UTC".into(), windows };
    let with = |change: fn(&mut HoursWindow)| {
        let mut window = good.clone();
        change(&mut window);
        of(vec![good.clone(), window])
    };
    let table = [
        (AllowedHours { time_zone: "Europe/Atlantis".into(), windows: vec![good.clone()] }, "h.time_zone"),
        (AllowedHours { time_zone: String::new(), windows: vec![good.clone()] }, "h.time_zone"),
        (of(Vec::new()), "h.windows"),
        (of(vec![good.clone(); 51]), "h.windows"),
        (with(|window| window.days = vec![0]), "h.windows[1].days[0]"),
        (with(|window| window.days = vec![8]), "h.windows[1].days[0]"),
        (with(|window| window.days = vec![1, 2, 1]), "h.windows[1].days[2]"),
        (with(|window| window.start = "24:00".into()), "h.windows[1].start"),
        (with(|window| window.start = "9:00".into()), "h.windows[1].start"),
        (with(|window| window.start = "09:60".into()), "h.windows[1].start"),
        (with(|window| window.start = String::new()), "h.windows[1].start"),
        (with(|window| window.start = "+9:00".into()), "h.windows[1].start"),
        (with(|window| window.end = "00:00".into()), "h.windows[1].end"),
        (with(|window| window.end = "24:01".into()), "h.windows[1].end"),
        (with(|window| window.end = "09:00".into()), "h.windows[1].end"),
    ];
    for (wrong, expected) in table {
        match Hours::parse("h", wrong.clone()) {
            Err(Error::Invalid { field, .. }) => assert_eq!(field, expected, "{wrong:?}"),
            other => panic!("{wrong:?}: {other:?}"),
        }
    }
}
