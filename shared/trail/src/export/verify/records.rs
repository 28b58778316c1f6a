//! The lines between: tiles are believed by the tiles above them, records by the tiles, payloads by the records.

use super::{Ahead, Body, Verifier};
use crate::{
    Payload, TILE_WIDTH, TileId,
    export::{
        Fault, Kind,
        lines::{Line, ReadPayload, decoded, payload},
        path::Taken,
    },
    header::Leaf,
    is_committed, leaf_hash,
    tiles::is_full,
};

/// Longest reason that is kept, in bytes.
const LONGEST_REASON: usize = 256;

impl Verifier {
    /// Takes a line that is of the form.
    pub(super) fn take(&mut self, body: &mut Body, text: &[u8], line: Line<'_>) {
        match line {
            Line::Tile { id, hashes } => self.tile(body, id, &hashes),
            Line::Record { leaf, payload, salt } => {
                let Some((leaf, index)) = self.known(body, leaf) else { return };
                if is_far(body, index) && body.path.is_at_edge(index) {
                    let (line, id) = (text.to_vec(), leaf.id.into_owned());
                    body.ahead = Some(Ahead { number: self.line, line, index, id });
                } else {
                    self.record(body, &leaf, index, payload, salt.as_deref());
                }
            }
            Line::Ended { index, event_id } => self.ended(body, index, &event_id),
            Line::End { records } => self.end(body, records),
        }
    }

    /// Keeps a line in doubt until it shows whether it stands in for a record.
    pub(super) fn suspect(&mut self, body: &mut Body, id: &str, mut kind: Kind) {
        // Many are kept: none with as much text of the file as its author likes.
        if let Kind::Malformed(reason) = &mut kind {
            reason.truncate(reason.floor_char_boundary(LONGEST_REASON));
        }
        let fault = Fault { line: self.line, index: None, id: id.into(), kind };
        if let Some(mut certain) = body.suspects.push(fault) {
            certain.index = Some(body.expected);
            body.expected = (body.expected + 1).min(body.end);
            self.report.tell(certain);
        }
    }

    fn tile(&mut self, body: &mut Body, id: TileId, hashes: &str) {
        // Others are none of the tree, and their ends are beyond any number.
        if !is_full(id, body.size) {
            return self.tell(None, "", Kind::TileMisplaced);
        }
        let leaves = 1_u128 << (8 * (u32::from(id.level.min(7)) + 1));
        let (first, end) = (u128::from(id.index) * leaves, (u128::from(id.index) + 1) * leaves);
        let cut = |at: u128| u64::try_from(at).unwrap_or(u64::MAX).clamp(body.expected, body.end);
        let (from, until) = (cut(first), cut(end));
        let needed = from < until && !body.path.has(id);
        let taken = decoded(hashes).map_or(Taken::Wrong, |hashes| body.path.take(id, hashes));
        match taken {
            Taken::Known if needed => {
                if id.level == 0 {
                    self.compare(body);
                }
            }
            Taken::Known => self.tell(None, "", Kind::TileMisplaced),
            // Those above it were told of.
            Taken::Unknown if from < body.told => {}
            Taken::Unknown | Taken::Wrong => {
                let index = (from < until).then_some(from);
                let kind = index.map_or(Kind::TileMisplaced, |_| Kind::Tile { last: until - 1 });
                self.tell(index, "", kind);
                body.told = body.told.max(until);
            }
        }
    }

    /// Decides about a record far ahead: where the file goes on behind it, all before it is missing.
    pub(super) fn settle_ahead(&mut self, body: &mut Body, next: Option<&Line<'_>>) {
        let Some(ahead) = body.ahead.take() else { return };
        let goes_on = match next {
            Some(Line::Record { leaf, .. }) => {
                let next = Leaf::parse(leaf.as_bytes()).ok().and_then(|leaf| u64::try_from(leaf.index).ok());
                next == Some(ahead.index + 1)
            }
            Some(Line::Ended { index, .. }) => *index == ahead.index + 1,
            Some(Line::End { .. }) => ahead.index + 1 == body.end,
            Some(Line::Tile { .. }) | None => false,
        };
        let now = std::mem::replace(&mut self.line, ahead.number);
        match Line::read(&ahead.line, &mut Vec::new()) {
            Ok(Line::Record { leaf, payload, salt }) if goes_on => {
                if let Some((leaf, index)) = self.known(body, leaf) {
                    self.record(body, &leaf, index, payload, salt.as_deref());
                }
            }
            _ => self.suspect(body, &ahead.id, Kind::Altered),
        }
        self.line = now;
    }

    /// The header of a record's line and its index, where the tree has it there, or cannot say. Any other is in doubt.
    fn known<'a>(&mut self, body: &mut Body, text: &'a str) -> Option<(Leaf<'a>, u64)> {
        let leaf = match Leaf::parse(text.as_bytes()) {
            Ok(leaf) => leaf,
            Err(error) => {
                self.suspect(body, "", Kind::Malformed(error.to_string()));
                return None;
            }
        };
        for (field, id) in [("id", &leaf.id), ("subject_id", &leaf.subject_id)] {
            if !is_uuid(id) && (field == "id" || !id.is_empty()) {
                self.suspect(body, "", Kind::Malformed(format!("its {field} is no UUID")));
                return None;
            }
        }
        let index = u64::try_from(leaf.index).ok().filter(|index| (body.begin..body.end).contains(index));
        let kind = match index {
            None => Kind::Beyond,
            Some(index) => match body.path.leaf(index) {
                Some(hash) if *hash == leaf_hash(text.as_bytes()) => return Some((leaf, index)),
                // Without its tile, its index alone says where it belongs; from elsewhere it is not believed even that.
                None if !is_far(body, index) => return Some((leaf, index)),
                _ => Kind::Altered,
            },
        };
        self.suspect(body, &leaf.id, kind);
        None
    }

    fn record(
        &mut self,
        body: &mut Body,
        leaf: &Leaf<'_>,
        index: u64,
        line: Option<&str>,
        salt: Option<&str>,
    ) {
        let proven = body.path.leaf(index).is_some();
        if !proven && index >= body.told {
            let end = ((tile_of(index) + 1) * TILE_WIDTH as u64).min(body.end);
            self.tell(Some(index), &leaf.id, Kind::TileMissing { last: end - 1 });
            body.told = end;
        }
        if self.place(body, index, &leaf.id) && proven {
            self.report.prove(index);
            self.payload(body, leaf, index, payload(line, salt).as_ref());
        }
    }

    fn payload(&mut self, body: &mut Body, leaf: &Leaf<'_>, index: u64, payload: Option<&ReadPayload<'_>>) {
        let mut message = None;
        match payload {
            Some(ReadPayload::LeftOut) if body.headers_only => {}
            Some(ReadPayload::Erased) if !body.headers_only => {
                self.report.erased += 1;
                // Only with its data subject a payload is ever erased.
                if leaf.subject_id.is_empty() {
                    self.tell(Some(index), &leaf.id, Kind::NotErased);
                } else {
                    body.erased.payload(&leaf.subject_id);
                }
            }
            Some(ReadPayload::Kept { bytes, salt }) if !body.headers_only => {
                let committed = hex::decode(leaf.payload_hmac.as_bytes());
                if committed.is_ok_and(|committed| is_committed(salt, bytes, &committed)) {
                    self.report.payloads += 1;
                    message = Some(*bytes);
                } else {
                    self.tell(Some(index), &leaf.id, Kind::PayloadAltered);
                }
            }
            Some(_) => self.tell(Some(index), &leaf.id, Kind::PayloadUnexpected),
            None => self.tell(Some(index), &leaf.id, Kind::PayloadAltered),
        }
        body.erased.seen(&leaf.action, &leaf.subject_id);
        let read = || Payload::parse(message?).ok().map(|payload| payload.message);
        body.explained.seen(index, &leaf.action, &leaf.id, read);
    }

    fn ended(&mut self, body: &mut Body, index: u64, event_id: &str) {
        if !is_uuid(event_id) {
            return self.suspect(body, "", Kind::Malformed("the id of its event is no UUID".into()));
        }
        if !(body.begin..body.end).contains(&index) {
            return self.suspect(body, "", Kind::Beyond);
        }
        if is_far(body, index) && (body.path.is_at_edge(index) || body.path.leaf(index).is_none()) {
            return self.suspect(body, "", Kind::Altered);
        }
        if self.place(body, index, "") {
            self.report.ended += 1;
            if !body.explained.gone(self.line, index, event_id) {
                self.tell(Some(index), "", Kind::NotEnded("by too many events to keep count of".into()));
            }
        }
    }

    /// Settles what came before a record of this index, and says whether it is in its place.
    fn place(&mut self, body: &mut Body, index: u64, id: &str) -> bool {
        let Some(gap) = index.checked_sub(body.expected) else {
            self.out_of_order(index, id);
            return false;
        };
        let missing = body.suspects.settle(body.expected, gap, |fault| self.report.tell(fault));
        if missing > 0 {
            self.tell(Some(index - missing), "", Kind::Missing { last: index - 1 });
        }
        body.expected = index + 1;
        true
    }

    /// A record that was taken to be missing, or that stood in the file already.
    fn out_of_order(&mut self, index: u64, id: &str) {
        let line = self.line;
        let missing = self
            .report
            .faults
            .iter_mut()
            .find(|fault| fault.index == Some(index) && fault.kind == Kind::Missing { last: index });
        if let Some(fault) = missing {
            fault.kind = Kind::Moved { to: line };
            fault.id = id.into();
        } else {
            self.tell(Some(index), id, Kind::Repeated);
        }
    }

    fn end(&mut self, body: &mut Body, records: u64) {
        let gap = body.end - body.expected;
        let missing = body.suspects.settle(body.expected, gap, |fault| self.report.tell(fault));
        if missing > 0 {
            self.tell(Some(body.end - missing), "", Kind::Missing { last: body.end - 1 });
        }
        body.expected = body.end;
        if records != body.end - body.begin {
            self.tell(None, "", Kind::Count);
        }
        self.done = true;
    }
}

/// Whether a record stands in another tile than the one that is expected.
const fn is_far(body: &Body, index: u64) -> bool {
    tile_of(index) != tile_of(body.expected)
}

/// Whether a text is a UUID as leaves have it: what is kept of a file is never longer.
fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        })
}

/// The tile of level 0 that a leaf's hash stands in.
const fn tile_of(index: u64) -> u64 {
    index / TILE_WIDTH as u64
}
