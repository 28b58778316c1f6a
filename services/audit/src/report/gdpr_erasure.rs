//! GDPR, Regulation (EU) 2016/679, Art. 17: data are erased without undue delay where a person may ask for it, and, by
//! Art. 5(2), the controller must be able to show it. Each erasure is a row: who asked for it, when, on which ground, when
//! it was done, and what went in which part of the suite, with the signed certificate. It names no one: the pseudonym is
//! all that is left. Art. 19 (telling recipients) is the controller's: the recipients are in the report of Art. 30.

use super::form::{self, Cell, Columns, Form, LEAF_HASH, LEAF_INDEX, column, moment};

pub(super) const FORM: Form = Form {
    title: "Erasures of data subjects",
    citation: "Regulation (EU) 2016/679 (GDPR), Art. 17 and 5(2)",
    has_payload: false,
    columns: Columns::Records(&[
        LEAF_INDEX,
        LEAF_HASH,
        column("erasure_id", "id of the erasure and of its event", |entry| {
            Cell::Text(entry.record.id.to_string())
        }),
        column("subject_id", "pseudonym; empty: nothing of the person was in the trail", form::subject),
        column("ground", "the request or the law, Art. 17(1)", form::reason),
        column("requested_by", "the admin's agent", form::agent),
        column("request_time", "when it was asked for, and the data became unreadable", form::time),
        column("done_time", "when every part was done; empty: it goes on", |entry| {
            form::of_erasure(entry, |erasure| erasure.done_time.map(moment).unwrap_or_default())
        }),
        column("erased", "records by part of the suite", |entry| form::of_erasure(entry, form::parts)),
        column("certificate", "signed note; names the leaf of the erasure", |entry| {
            form::of_erasure(entry, |erasure| erasure.certificate.clone())
        }),
    ]),
    notes: &[],
};
