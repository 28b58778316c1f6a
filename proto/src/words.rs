//! The words that `types` and the contracts share, in both directions. Nothing else is converted here:
//! everything that one service alone uses is mapped in its `rpc.rs`.

use crate::{
    permissions::v1::{Role, Scope},
    types::v1 as wire,
};

macro_rules! words {
    ($domain:ty, $wire:ty { $($variant:ident),+ $(,)? }) => {
        impl From<$domain> for $wire {
            fn from(word: $domain) -> Self {
                match word { $(<$domain>::$variant => Self::$variant),+ }
            }
        }

        /// `None` where the message does not say.
        impl From<$wire> for Option<$domain> {
            fn from(word: $wire) -> Self {
                match word { <$wire>::Unspecified => None, $(<$wire>::$variant => Some(<$domain>::$variant)),+ }
            }
        }
    };
}

words!(types::Effect, wire::Effect { ReadOnly, Idempotent, SideEffect });
words!(types::Sensitivity, wire::Sensitivity { Public, Internal, Confidential, Restricted });
words!(types::Role, Role { Agent, Auditor, Operator, Admin });
words!(
    types::Scope,
    Scope {
        ToolsRead,
        ToolsCall,
        ToolsWrite,
        ExecutionsRead,
        AuditRead,
        AuditWrite,
        PermissionsRead,
        PermissionsWrite,
        CredentialsWrite,
    }
);
words!(
    types::Category,
    wire::Category {
        WebSearch,
        CodeExecution,
        DataAnalysis,
        FileIo,
        ApiIntegration,
        ImageProcessing,
        TextProcessing,
        DataRetrieval,
        Communication,
        ContentGeneration,
        Custom,
    }
);
