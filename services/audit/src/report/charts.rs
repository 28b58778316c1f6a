//! Charts as inline SVG: bars over days, and shares of a whole. Numbers and dates alone go in, so there is nothing to
//! escape; colours come from the style of the page. Pure.

use std::{collections::BTreeMap, fmt::Write as _};

use chrono::NaiveDate;

/// Most bars of a chart: with more days, one stands for several.
const MOST: usize = 60;
const WIDTH: usize = 720;
const HEIGHT: usize = 120;

/// Bars over the days from the first to the last; days without a value are empty.
pub(super) fn bars(
    days: &BTreeMap<NaiveDate, i64>,
    (first, last): (NaiveDate, NaiveDate),
    label: &str,
) -> String {
    let count = usize::try_from((last - first).num_days()).unwrap_or(0) + 1;
    let per_bar = count.div_ceil(MOST);
    let mut values = vec![0_i64; count.div_ceil(per_bar)];
    for (day, value) in days {
        let at = usize::try_from((*day - first).num_days()).unwrap_or(0) / per_bar;
        if let Some(bar) = values.get_mut(at) {
            *bar += value;
        }
    }
    let (top, step) = (values.iter().copied().max().unwrap_or(0).max(1), WIDTH / values.len().max(1));
    let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{label}\">");
    for (at, value) in values.iter().enumerate() {
        let height = (i128::from(*value) * 96 / i128::from(top)).max(i128::from(*value > 0));
        let (x, y) = (at * step, 100 - height);
        let from = first + chrono::Days::new((at * per_bar) as u64);
        let width = step.saturating_sub(1).clamp(1, 40);
        let _ = write!(
            svg,
            "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\"><title>{from}: {value}</title></rect>"
        );
    }
    let _ = write!(
        svg,
        "<path d=\"M0 100.5H{WIDTH}\"/><text x=\"0\" y=\"116\">{first}</text><text x=\"{WIDTH}\" y=\"116\" \
         text-anchor=\"end\">{last}</text></svg>"
    );
    svg
}

/// One bar of parts; each has a class of the page's style.
pub(super) fn shares(parts: &[(&'static str, i64)], label: &str) -> String {
    let total: i64 = parts.iter().map(|(_, value)| value).sum::<i64>().max(1);
    let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} 24\" role=\"img\" aria-label=\"{label}\">");
    let mut so_far = 0;
    let place = |value: i64| i128::from(value) * 720 / i128::from(total);
    for (class, value) in parts {
        let (x, end) = (place(so_far), place(so_far + value));
        so_far += value;
        let width = end - x;
        let _ = write!(
            svg,
            "<rect class=\"{class}\" x=\"{x}\" y=\"0\" width=\"{width}\" height=\"24\"><title>{class}: {value}</title></rect>"
        );
    }
    svg + "</svg>"
}
