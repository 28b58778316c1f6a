//! HIPAA Privacy Rule, 45 CFR 164.528: an individual may get an accounting of disclosures of the six years before. By
//! paragraph (b)(2) it has, for each disclosure, the date, who received it, a brief description of what was disclosed, and a
//! brief statement of the purpose. Data are disclosed when they reach a tool, whether or not it then failed: attempts
//! that were tried again count. What the cache answered, or permissions refused, reached nobody.

use super::form::{self, Columns, EVENT_ID, Form, LEAF_HASH, LEAF_INDEX, column};

pub(super) const FORM: Form = Form {
    title: "Accounting of disclosures",
    citation: "HIPAA Privacy Rule, 45 CFR 164.528",
    has_payload: true,
    columns: Columns::Records(&[
        LEAF_INDEX,
        LEAF_HASH,
        EVENT_ID,
        column("date", "of the disclosure, 164.528(b)(2)(i)", form::time),
        column("recipient", "the tool that received it, 164.528(b)(2)(ii)", form::tool),
        column("recipient_version", "its version", form::tool_version),
        column("recipient_digest", "digest of its definition, which has its address", form::tool_digest),
        column(
            "description",
            "what was disclosed, as JSON, 164.528(b)(2)(iii); empty: erased",
            form::arguments,
        ),
        column("classification", "of what was disclosed", form::classification),
        column("purpose", "the task, 164.528(b)(2)(iv)", form::task),
        column("disclosed_by", "the agent", form::agent),
        column("result", "how it ended", form::result),
        column("execution_id", "the execution", form::execution),
        column("subject_id", "pseudonym of the individual", form::subject),
    ]),
    notes: &[
        "An individual is entitled to the six years before the request (164.528(a)(1)). Disclosures for treatment, \
              payment and operations, to the individual, or by authorization need not be accounted for; they are in here \
              all the same, since the trail does not tell them apart.",
    ],
};
