//! Which records a report must have: one rule, for whoever writes reports and for whoever checks them. Sees headers only,
//! so that it gives the same answer when payloads are erased or left out.

use chrono::{DateTime, Utc};

use crate::Header;

/// For whom a report is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Framework {
    /// GDPR Art. 15: all that is kept of a data subject.
    GdprAccess,
    /// GDPR Art. 17: erasures.
    GdprErasure,
    /// GDPR Art. 30: records of processing activities, one row a tool and classification.
    GdprProcessing,
    /// HIPAA, 45 CFR 164.312(b): audit controls.
    HipaaAuditControls,
    /// HIPAA, 45 CFR 164.528: accounting of disclosures.
    HipaaDisclosures,
    /// SOC 2, CC7: system operations.
    Soc2Cc7,
    /// Regulation (EU) 2024/1689, Art. 12: record-keeping.
    EuAiActRecords,
}

/// Calls of tools, however they ended, and who asked for them in vain.
const USES: [&str; 6] =
    ["tool_invoked", "cache_hit", "retry_attempted", "fallback_used", "error_occurred", "permission_checked"];

impl Framework {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::GdprAccess,
        Self::GdprErasure,
        Self::GdprProcessing,
        Self::HipaaAuditControls,
        Self::HipaaDisclosures,
        Self::Soc2Cc7,
        Self::EuAiActRecords,
    ];

    /// Its name in files and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::GdprAccess => "gdpr-access",
            Self::GdprErasure => "gdpr-erasure",
            Self::GdprProcessing => "gdpr-processing",
            Self::HipaaAuditControls => "hipaa-audit-controls",
            Self::HipaaDisclosures => "hipaa-disclosures",
            Self::Soc2Cc7 => "soc2-cc7",
            Self::EuAiActRecords => "eu-ai-act",
        }
    }

    /// The framework of a name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|framework| framework.name() == name)
    }

    /// Whether it is about one data subject.
    pub const fn needs_subject(self) -> bool {
        matches!(self, Self::GdprAccess | Self::HipaaDisclosures)
    }

    /// Whether a row is not one record but what is common to many.
    pub const fn is_grouped(self) -> bool {
        matches!(self, Self::GdprProcessing)
    }

    /// The actions it is about; `None`: all.
    pub fn actions(self) -> Option<Vec<&'static str>> {
        let uses_and = |more: &[&'static str]| Some([&USES, more].concat());
        match self {
            Self::GdprAccess | Self::GdprProcessing => None,
            Self::GdprErasure => Some(vec!["subject_erased"]),
            // Also who failed to get in, who was let in by whom, and who looked at the records themselves.
            Self::HipaaAuditControls => uses_and(&[
                "authentication_failed",
                "access_decided",
                "report_generated",
                "reviewed",
                "subject_erased",
            ]),
            // What reached a tool; what the cache answered, or permissions refused, was disclosed to nobody.
            Self::HipaaDisclosures => Some(vec!["tool_invoked", "retry_attempted", "fallback_used"]),
            Self::Soc2Cc7 => Some(vec![
                "definition_changed",
                "permission_changed",
                "identity_changed",
                "policy_changed",
                "credential_rotated",
                "authentication_failed",
                "permission_checked",
                "error_occurred",
                "discrepancy_found",
                "reviewed",
                "retention_applied",
                "hold_changed",
                "subject_erased",
                "report_generated",
            ]),
            Self::EuAiActRecords => uses_and(&["access_decided", "reviewed"]),
        }
    }

    /// Whether it is also about whatever did not succeed, whichever action it was.
    pub const fn has_every_failure(self) -> bool {
        matches!(self, Self::Soc2Cc7)
    }

    /// Whether it is about records of a tool only.
    pub const fn needs_tool(self) -> bool {
        matches!(self, Self::GdprProcessing | Self::HipaaDisclosures)
    }
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// For whom.
    pub framework: Framework,
    /// Events at or after this time.
    pub start: DateTime<Utc>,
    /// Events before this time.
    pub end: DateTime<Utc>,
    /// Pseudonyms that the data subject has or had; `None`: of whomever.
    pub subjects: Option<Vec<String>>,
}

impl Query {
    /// Whether the report must have this record.
    pub fn selects(&self, header: &Header) -> bool {
        let framework = self.framework;
        let is_in_time = header.event_time >= self.start && header.event_time < self.end;
        let is_of_subject =
            self.subjects.as_ref().is_none_or(|subjects| subjects.contains(&header.subject_id));
        let is_failure = framework.has_every_failure() && header.result != "success";
        let is_meant =
            is_failure || framework.actions().is_none_or(|actions| actions.contains(&header.action.as_str()));
        is_in_time && is_of_subject && is_meant && (!framework.needs_tool() || !header.tool_name.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_framework_and_comes_back() {
        for framework in Framework::ALL {
            assert_eq!(Framework::parse(framework.name()), Some(framework));
        }
        assert_eq!(Framework::parse("iso-27001"), None);
    }

    #[test]
    fn what_a_report_must_have_follows_from_time_subject_action_result_and_tool() {
        let at = |second| DateTime::from_timestamp(second, 0).unwrap();
        let query = |framework| Query { framework, start: at(10), end: at(20), subjects: None };
        let header = Header {
            event_time: at(10),
            action: "tool_invoked".into(),
            result: "success".into(),
            tool_name: "t".into(),
            subject_id: "s".into(),
            ..Header::default()
        };
        let soc2 = query(Framework::Soc2Cc7);
        assert!(!soc2.selects(&header));
        assert!(soc2.selects(&Header { result: "unknown".into(), ..header.clone() }));
        assert!(soc2.selects(&Header { action: "reviewed".into(), ..header.clone() }));
        let uses = query(Framework::EuAiActRecords);
        assert!(uses.selects(&header) && uses.selects(&Header { event_time: at(19), ..header.clone() }));
        assert!(!uses.selects(&Header { event_time: at(20), ..header.clone() }));
        assert!(!uses.selects(&Header { event_time: at(9), ..header.clone() }));
        let of = |subject: &str| Query {
            subjects: Some(vec![subject.into()]),
            ..query(Framework::HipaaDisclosures)
        };
        assert!(of("s").selects(&header) && !of("other").selects(&header));
        assert!(!of("s").selects(&Header { tool_name: String::new(), ..header.clone() }));
        assert!(!of("s").selects(&Header { action: "cache_hit".into(), ..header.clone() }));
    }
}
