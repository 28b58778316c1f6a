//! One pass over a text: an automaton of all beginnings and a table of single bytes say where something may stand, and
//! only there is looked closer, a bounded way, never twice at what was found. Must never do more than a fixed number of
//! steps a byte, whatever the text.

use std::sync::LazyLock;

use aho_corasick::{
    Anchored, MatchKind,
    automaton::{Automaton, StateID},
    dfa::DFA,
};

use crate::{config::Detector, look::Look, rules::Rules, tokens::TOKENS};

/// What was found, in bytes of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Span {
    pub start: usize,
    pub end: usize,
    pub rule: Rule,
}

/// What found it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rule {
    /// One that is built in.
    Known(&'static str),
    /// A pattern that was added, by its place.
    Added(usize),
}

/// What a beginning leads to.
#[derive(Clone, Copy)]
enum Lead {
    Token(usize),
    Place(fn(&mut Scan<'_>, usize, usize), Option<Detector>),
}

type Find = fn(&mut Scan<'_>, usize, usize);

/// Beginnings that are no tokens: text in lower case, what looks closer, and the detector that may be switched off.
static PLACES: &[(&str, Find, Option<Detector>)] = &[
    ("-----begin ", crate::blocks::pem, None),
    ("putty-user-key-file-", crate::blocks::putty, None),
    ("eyj", crate::blocks::jwt, Some(Detector::Jwt)),
    ("eyj", crate::blocks::encoded, None),
    ("w3s", crate::blocks::encoded, None),
    ("wyj", crate::blocks::encoded, None),
    ("ewo", crate::blocks::encoded, None),
    ("ew0", crate::blocks::encoded, None),
    ("eya", crate::blocks::encoded, None),
    ("://", crate::places::user_info, Some(Detector::UrlUserInfo)),
    ("@tcp(", crate::places::go_dsn, Some(Detector::ConnectionString)),
    ("@unix(", crate::places::go_dsn, Some(Detector::ConnectionString)),
    (":thin:", crate::places::oracle, Some(Detector::ConnectionString)),
    ("accountkey=", crate::places::azure_key, Some(Detector::ConnectionString)),
    ("sharedaccesssignature=", crate::places::azure_key, Some(Detector::ConnectionString)),
    ("bearer", crate::headers::bearer, Some(Detector::Authorization)),
    ("basic", crate::headers::basic, Some(Detector::Authorization)),
    ("authorization", crate::headers::authorization, Some(Detector::Authorization)),
    ("cookie", crate::headers::cookie, Some(Detector::Authorization)),
    ("%3d", crate::named::encoded, Some(Detector::NamedSecret)),
    (" --", crate::named::flag, Some(Detector::NamedSecret)),
    (" is ", crate::named::told, Some(Detector::NamedSecret)),
    ("q~", crate::middles::azure_secret, None),
    (".atlasv1.", crate::middles::terraform, None),
    (":aa", crate::middles::telegram, None),
    ("-us", crate::middles::mailchimp, None),
    ("azdo", crate::middles::azure_devops, None),
    ("jqqj99", crate::middles::azure_devops, None),
];

/// Single bytes that lead somewhere.
fn byte_lead(byte: u8) -> Option<(Find, Option<Detector>)> {
    Some(match byte {
        b'@' => (crate::places::email as Find, Some(Detector::Email)),
        b'=' | b':' => (crate::named::assigned, Some(Detector::NamedSecret)),
        b'>' => (crate::named::element, Some(Detector::NamedSecret)),
        b'+' => (crate::numbers::international, Some(Detector::Phone)),
        b'.' => (crate::middles::dotted, None),
        _ => return None,
    })
}

/// The same for every byte, so that the pass looks up and does not decide.
static IS_LEAD: LazyLock<[bool; 256]> =
    LazyLock::new(|| std::array::from_fn(|byte| u8::try_from(byte).is_ok_and(|b| byte_lead(b).is_some())));

struct Beginnings {
    automaton: DFA,
    start: StateID,
    leads: Vec<Lead>,
}

static BEGINNINGS: LazyLock<Beginnings> = LazyLock::new(|| {
    let tokens = TOKENS.iter().map(|token| token.prefix);
    let places = PLACES.iter().map(|(text, ..)| *text);
    let automaton = DFA::builder()
        .match_kind(MatchKind::Standard)
        .ascii_case_insensitive(true)
        .prefilter(false)
        .build(tokens.chain(places))
        .expect("a constant list, built by the tests");
    let start = automaton.start_state(Anchored::No).expect("built for searches anywhere");
    let leads = (0..TOKENS.len()).map(Lead::Token);
    let leads = leads.chain(PLACES.iter().map(|(_, find, detector)| Lead::Place(*find, *detector))).collect();
    Beginnings { automaton, start, leads }
});

/// A pass under way.
pub(crate) struct Scan<'a> {
    pub look: Look<'a>,
    pub text: &'a str,
    pub rules: &'a Rules,
    /// Levels of JSON within texts that this text is below.
    pub nested: usize,
    pub spans: Vec<Span>,
    /// Whether the first find ends the pass.
    is_asked: bool,
    /// Before this place nothing is begun: it is part of what was found.
    pub taken: usize,
    /// How far each of some finders has looked in vain, so that it does not look there again.
    pub jwt_until: usize,
    pub encoded_until: usize,
}

impl<'a> Scan<'a> {
    fn new(text: &'a str, rules: &'a Rules, nested: usize) -> Self {
        Self {
            look: Look::at_text(text),
            text,
            rules,
            nested,
            spans: Vec::new(),
            is_asked: false,
            taken: 0,
            jwt_until: 0,
            encoded_until: 0,
        }
    }

    /// Everything that stands in a text.
    pub(crate) fn all(text: &'a str, rules: &'a Rules, nested: usize) -> Vec<Span> {
        let mut scan = Self::new(text, rules, nested);
        scan.run();
        scan.spans
    }

    /// Whether anything does.
    pub(crate) fn any(text: &'a str, rules: &'a Rules, nested: usize) -> bool {
        let mut scan = Self { is_asked: true, ..Self::new(text, rules, nested) };
        scan.run();
        !scan.spans.is_empty()
    }

    /// How many bytes were looked at, the pass itself included.
    #[cfg(test)]
    pub(crate) fn work(text: &'a str, rules: &'a Rules) -> usize {
        let mut scan = Self::new(text, rules, 0);
        scan.run();
        scan.look.work() + text.len()
    }

    /// Notes what was found; nothing begins within it any more.
    pub(crate) fn found(&mut self, start: usize, end: usize, rule: &'static str) {
        if start < end {
            self.spans.push(Span { start, end, rule: Rule::Known(rule) });
            self.taken = self.taken.max(end);
        }
    }

    /// Whether a detector is at work.
    pub(crate) fn is_on(&self, detector: Detector) -> bool {
        !self.rules.off.has(detector)
    }

    fn is_over(&self) -> bool {
        self.is_asked && !self.spans.is_empty()
    }

    fn run(&mut self) {
        let Beginnings { automaton, start, leads } = &*BEGINNINGS;
        let (is_lead, mut state) = (&*IS_LEAD, *start);
        let mut was_digit = false;
        for (at, &byte) in self.text.as_bytes().iter().enumerate() {
            state = automaton.next_state(Anchored::No, state, byte);
            if automaton.is_special(state) && automaton.is_match(state) {
                for index in 0..automaton.match_len(state) {
                    let pattern = automaton.match_pattern(state, index);
                    let begins = at + 1 - automaton.pattern_len(pattern);
                    self.lead(leads[pattern.as_usize()], begins, at + 1);
                }
                if self.is_over() {
                    return;
                }
            }
            let is_digit = byte.is_ascii_digit();
            if is_digit && !was_digit || is_lead[usize::from(byte)] {
                self.byte(byte, at);
                if self.is_over() {
                    return;
                }
            }
            was_digit = is_digit;
        }
    }

    fn lead(&mut self, lead: Lead, begins: usize, ends: usize) {
        match lead {
            Lead::Token(number) if begins >= self.taken => self.token(number, begins, ends),
            Lead::Place(find, detector) if ends > self.taken && detector.is_none_or(|it| self.is_on(it)) => {
                find(self, begins, ends);
            }
            Lead::Token(_) | Lead::Place(..) => {}
        }
    }

    fn byte(&mut self, byte: u8, at: usize) {
        if at < self.taken {
            return;
        }
        match byte_lead(byte) {
            Some((find, detector)) if detector.is_none_or(|it| self.is_on(it)) => find(self, at, at + 1),
            Some(_) => {}
            None => crate::numbers::number(self, at),
        }
    }

    fn token(&mut self, number: usize, begins: usize, ends: usize) {
        let token = &TOKENS[number];
        let is_it = crate::middles::token_end(&self.look, token, begins, ends);
        if let Some(end) = is_it {
            self.found(begins, end, token.name);
        }
    }
}

/// Spans in order, none of which meets another.
pub(crate) fn joined(mut spans: Vec<Span>) -> Vec<Span> {
    spans.sort_unstable();
    let mut joined: Vec<Span> = Vec::with_capacity(spans.len());
    for span in spans {
        match joined.last_mut() {
            Some(last) if span.start < last.end => last.end = last.end.max(span.end),
            _ => joined.push(span),
        }
    }
    joined
}
