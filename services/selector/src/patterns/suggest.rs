//! What could be done about a tool, with the figures that say so and the command that does it. Pure. Must suggest nothing
//! without its evidence, and nothing that the registry or the executor would not do.

use std::collections::BTreeMap;

use catalog::TeamTools;
use proto::{
    registry::v1::{Tool, ToolStatus, binding::Kind as BindingKind},
    types::v1 as wire,
};
use types::{Effect, Sensitivity};

use crate::{
    learn::{BUCKETS, bucket},
    store::patterns::AlarmRow,
};

/// Fewest calls that say anything.
const FEWEST_CALLS: i64 = 20;
/// Least share of equal calls that a cache is worth.
const REPEATED: f64 = 0.3;
/// Seconds that an answer must stay fresh to spare what was counted: equal calls of a day.
const DAY_S: i64 = 86_400;
/// How many times the 99th percentile a timeout may be before it is long.
const LONG: f64 = 5.0;
/// How many times the 99th percentile a timeout should be.
const AMPLE: f64 = 3.0;
/// Bounds of a timeout, in milliseconds, by the registry.
const TIMEOUT_MS: (i64, i64) = (1_000, 300_000);
/// Least share of the calls that are cut off, and of the successes that end close below, for a timeout to be short.
const CUT_OFF: f64 = 0.1;
const CLOSE: f64 = 0.05;
/// Share of the timeout from which a call that was cut off had all its time; by buckets, so that it may be less.
const CUT_SHORT: f64 = 0.9;
/// Success rate below which a tool needs another, and from which another may stand in.
const FAILING: f64 = 0.8;
const SOUND: f64 = 0.9;

/// What was seen of one tool's calls in the period.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ToolUse {
    /// Calls that ran and say something of the tool.
    pub calls: i64,
    pub successes: i64,
    /// By duration: those that succeeded, those that failed, and of these those that were cut off.
    pub succeeded: [i64; BUCKETS],
    pub failed: [i64; BUCKETS],
    pub timed_out: [i64; BUCKETS],
    /// Calls that a cache might have answered, those of them that an equal one came before on the same day, and those
    /// that a cache did answer.
    pub cacheable: i64,
    pub repeated: i64,
    pub cached: i64,
}

impl Default for ToolUse {
    fn default() -> Self {
        let none = [0; BUCKETS];
        let (calls, successes, cacheable, repeated, cached) = (0, 0, 0, 0, 0);
        Self { calls, successes, succeeded: none, failed: none, timed_out: none, cacheable, repeated, cached }
    }
}

impl ToolUse {
    fn success_rate(&self) -> f64 {
        share(self.successes, self.calls)
    }

    /// The duration that 99 of 100 successful calls stay below: the upper end of its bucket, in milliseconds.
    fn p99_ms(&self) -> Option<f64> {
        let all: i64 = self.succeeded.iter().sum();
        let mut below = 0;
        let place = self.succeeded.iter().position(|calls| {
            below += calls;
            below as f64 >= 0.99 * all as f64
        });
        place.filter(|_| all > 0).map(|bucket| (bucket as f64 / 2.0).exp2())
    }
}

/// What kind of thing could be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Investigate,
    AddFallback,
    RaiseTimeout,
    LowerTimeout,
    CacheThis,
}

/// One thing that could be done.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Suggestion {
    pub kind: Kind,
    pub tool_name: String,
    pub text: String,
    /// With `AddFallback`; empty otherwise.
    pub fallback_tool: String,
    /// With `LowerTimeout` and `RaiseTimeout`; 0 otherwise.
    pub timeout_ms: i64,
    /// Calls that would have been spared or saved in the period.
    pub calls: i64,
}

/// Everything that the period gives reason for: alarms first, then what concerns most calls.
pub(crate) fn suggestions(
    uses: &BTreeMap<String, ToolUse>,
    tools: &TeamTools,
    alarms: &[AlarmRow],
) -> Vec<Suggestion> {
    let mut found: Vec<Suggestion> = alarms.iter().map(|alarm| investigate(alarm, uses)).collect();
    for (name, used) in uses {
        let Some(tool) = tools.get(name) else { continue };
        found.extend(cache_this(name, used, tool));
        found.extend(lower_timeout(name, used, tool));
        found.extend(raise_timeout(name, used, tool));
        found.extend(add_fallback(name, used, tool, (uses, tools)));
    }
    found.sort_by(|left, right| {
        let alarm = |it: &Suggestion| it.kind != Kind::Investigate;
        let by_weight = alarm(left).cmp(&alarm(right)).then(right.calls.cmp(&left.calls));
        by_weight.then_with(|| (&left.tool_name, left.kind).cmp(&(&right.tool_name, right.kind)))
    });
    found
}

fn suggestion(kind: Kind, tool: &str, calls: i64, text: String) -> Suggestion {
    Suggestion { kind, tool_name: tool.to_owned(), text, fallback_tool: String::new(), timeout_ms: 0, calls }
}

fn investigate(alarm: &AlarmRow, uses: &BTreeMap<String, ToolUse>) -> Suggestion {
    let tool = &alarm.tool_name;
    let reason = match alarm.failure_reason.as_str() {
        "" => String::new(),
        reason => format!(", mostly {reason}"),
    };
    let text = format!(
        "has turned worse since {}: {:.0} % of its calls succeed, {:.0} % did before{reason}: toolcrib metrics {tool}",
        alarm.start_time.format("%Y-%m-%d %H:%M UTC"),
        alarm.rate_since * 100.0,
        alarm.rate_before * 100.0,
    );
    let failures = uses.get(tool).map_or(0, |used| used.calls - used.successes);
    suggestion(Kind::Investigate, tool, failures, text)
}

/// Equal calls of a tool that changes nothing, and whose answers are not kept though they might be.
fn cache_this(name: &str, used: &ToolUse, tool: &Tool) -> Option<Suggestion> {
    let definition = tool.definition.as_ref()?;
    let is_kept =
        tool.settings.as_ref().and_then(|set| set.cache.as_ref()).is_some_and(|cache| cache.enabled);
    // A built-in tool may read the files of its task, so that an equal call of another task is not the same.
    let binding = definition.binding.as_ref().and_then(|binding| binding.kind.as_ref());
    let is_builtin = matches!(binding, Some(BindingKind::Builtin(_)));
    let may_be_kept =
        definition.effect() == wire::Effect::ReadOnly && sensitivity(tool) < Sensitivity::Restricted;
    let spared = used.repeated - used.cached;
    let is_worth = used.cacheable >= FEWEST_CALLS && share(spared, used.cacheable) >= REPEATED;
    (may_be_kept && !is_kept && !is_builtin && is_worth).then(|| {
        let text = format!(
            "{spared} of {} calls had the arguments of an earlier one of the same day, and it changes nothing: keep its \
             answers, if they stay true that long: toolcrib tools set {name} cache.enabled=true cache.ttl_s={DAY_S}",
            used.cacheable,
        );
        suggestion(Kind::CacheThis, name, spared, text)
    })
}

/// Calls that wait for an answer long after any has ever come.
fn lower_timeout(name: &str, used: &ToolUse, tool: &Tool) -> Option<Suggestion> {
    let (timeout_ms, p99) = (timeout_ms(tool)?, used.p99_ms()?);
    #[allow(clippy::cast_possible_truncation, reason = "below an hour")]
    let ample = ((AMPLE * p99 / 100.0).ceil() as i64 * 100).max(TIMEOUT_MS.0);
    let waited = from(&used.failed, timeout_ms as f64 / 2.0);
    let is_long = timeout_ms as f64 >= LONG * p99 && ample < timeout_ms;
    (used.successes >= FEWEST_CALLS && is_long && waited > 0).then(|| {
        let text = format!(
            "99 % of the calls that succeed end within {p99:.0} ms, and {waited} others waited up to {timeout_ms} ms for \
             nothing: fail sooner: toolcrib tools set {name} timeout_ms={ample}"
        );
        Suggestion { timeout_ms: ample, ..suggestion(Kind::LowerTimeout, name, waited, text) }
    })
}

/// Calls that are cut off while others just make it.
fn raise_timeout(name: &str, used: &ToolUse, tool: &Tool) -> Option<Suggestion> {
    let timeout_ms = timeout_ms(tool)?;
    // A call may ask for less time than the tool has: what ended long before says nothing of the tool's timeout.
    let cut_off: i64 = used.timed_out.iter().skip(bucket(CUT_SHORT * timeout_ms as f64)).sum();
    let close = from(&used.succeeded, timeout_ms as f64 / 2.0);
    let longer = (2 * timeout_ms).min(TIMEOUT_MS.1);
    let is_short = share(cut_off, used.calls) >= CUT_OFF && share(close, used.successes) >= CLOSE;
    (used.calls >= FEWEST_CALLS && is_short && longer > timeout_ms).then(|| {
        let text = format!(
            "{cut_off} of {} calls were cut off after {timeout_ms} ms, and {close} others ended in the last half of that \
             time: wait longer: toolcrib tools set {name} timeout_ms={longer}",
            used.calls,
        );
        Suggestion { timeout_ms: longer, ..suggestion(Kind::RaiseTimeout, name, cut_off, text) }
    })
}

/// A tool that fails, where another that does the same work does not.
fn add_fallback(
    name: &str,
    used: &ToolUse,
    tool: &Tool,
    (uses, tools): (&BTreeMap<String, ToolUse>, &TeamTools),
) -> Option<Suggestion> {
    let has_one = tool.settings.as_ref().is_some_and(|settings| !settings.fallbacks.is_empty());
    if has_one || used.calls < FEWEST_CALLS || used.success_rate() >= FAILING {
        return None;
    }
    let stands_in = |(other, of_other): &(&String, &ToolUse)| {
        *other != name
            && of_other.calls >= FEWEST_CALLS
            && of_other.success_rate() >= SOUND
            && tools.get(*other).is_some_and(|other| does_the_same(other, tool))
    };
    let better = |left: &(&String, &ToolUse), right: &(&String, &ToolUse)| {
        left.1.success_rate().total_cmp(&right.1.success_rate()).then(right.0.cmp(left.0))
    };
    let (other, of_other) = uses.iter().filter(stands_in).max_by(better)?;
    let failures = used.calls - used.successes;
    let text = format!(
        "{failures} of {} calls failed, and {other}, which does the same kind of work, succeeds with {:.0} %: let it stand \
         in: toolcrib tools fallbacks {name} --add {other} (--arguments makes its arguments where they differ)",
        used.calls,
        of_other.success_rate() * 100.0,
    );
    let fallback_tool = other.clone();
    Some(Suggestion { fallback_tool, ..suggestion(Kind::AddFallback, name, failures, text) })
}

/// Whether a tool may be called in another's place: it can do all of it, for data as sensitive, and does nothing to the
/// world where the other does nothing.
fn does_the_same(other: &Tool, tool: &Tool) -> bool {
    let (Some(theirs), Some(own)) = (other.definition.as_ref(), tool.definition.as_ref()) else {
        return false;
    };
    let words = |capabilities: &[String]| -> Vec<String> {
        capabilities.iter().map(|word| word.trim().to_lowercase()).collect()
    };
    let (has, needed) = (words(&theirs.capabilities), words(&own.capabilities));
    let is_of_a_kind = theirs.category == own.category
        && (own.category() != wire::Category::Unspecified || !needed.is_empty());
    let effect = |effect: wire::Effect| Option::from(effect).unwrap_or(Effect::SideEffect);
    let adds_an_effect =
        effect(theirs.effect()) == Effect::SideEffect && effect(own.effect()) != Effect::SideEffect;
    other.status() == ToolStatus::Active
        && is_of_a_kind
        && needed.iter().all(|capability| has.contains(capability))
        && sensitivity(other) >= sensitivity(tool)
        && !adds_an_effect
}

fn sensitivity(tool: &Tool) -> Sensitivity {
    let said = tool.definition.as_ref().and_then(|definition| Option::from(definition.sensitivity()));
    said.unwrap_or(Sensitivity::Internal)
}

/// Longest run of one attempt, as it is set; `None`: not known.
fn timeout_ms(tool: &Tool) -> Option<i64> {
    let set = tool.settings.as_ref().map_or(0, |settings| settings.timeout_ms);
    let own = tool.definition.as_ref().map_or(0, |definition| definition.timeout_ms);
    [set, own].into_iter().find(|timeout| *timeout > 0)
}

/// Calls that took as long or longer; those of the bucket in which this lies do not count.
fn from(durations: &[i64; BUCKETS], duration_ms: f64) -> i64 {
    let begin = bucket(duration_ms);
    let starts_there = ((begin as f64 - 1.0) / 2.0).exp2() >= duration_ms * 0.999;
    durations.iter().skip(if starts_there { begin } else { begin + 1 }).sum()
}

fn share(part: i64, whole: i64) -> f64 {
    if whole > 0 { part as f64 / whole as f64 } else { 0.0 }
}

#[cfg(test)]
#[path = "suggest_tests.rs"]
mod tests;
