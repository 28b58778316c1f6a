//! Closed sets of words, each with its one spelling for storage, JSON and people.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A word that is not in its set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{set} {word:?} is not known")]
pub struct UnknownWord {
    set: &'static str,
    word: String,
}

impl UnknownWord {
    /// Names the set and the word.
    pub fn new(set: &'static str, word: &str) -> Self {
        Self { set, word: word.chars().take(64).collect() }
    }
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident, $set:literal { $($(#[$variant_doc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum $name { $($(#[$variant_doc])* $variant),+ }

        impl $name {
            /// Every member, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word, as stored and printed.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl FromStr for $name {
            type Err = UnknownWord;

            fn from_str(word: &str) -> Result<Self, UnknownWord> {
                match word { $($word => Ok(Self::$variant),)+ other => Err(UnknownWord::new($set, other)) }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

words! {
    /// What a tool does to the world. Decides caching, retry and durability; unknown means `SideEffect`.
    Effect, "effect" {
        /// Changes nothing outside toolcrib.
        ReadOnly = "read_only",
        /// Running it twice leaves the world as running it once does.
        Idempotent = "idempotent",
        /// Every run changes the world.
        SideEffect = "side_effect",
    }
}

words! {
    /// How sensitive the data is that a tool handles; ordered.
    Sensitivity, "sensitivity" {
        /// May be seen by anyone.
        Public = "public",
        /// May be seen inside the organisation.
        Internal = "internal",
        /// May be seen by those who need it.
        Confidential = "confidential",
        /// May be seen by named people only.
        Restricted = "restricted",
    }
}

words! {
    /// The kind of work a tool does.
    Category, "category" {
        /// Searches the web.
        WebSearch = "web_search",
        /// Runs programs.
        CodeExecution = "code_execution",
        /// Analyses data.
        DataAnalysis = "data_analysis",
        /// Reads and writes files.
        FileIo = "file_io",
        /// Talks to other systems' interfaces.
        ApiIntegration = "api_integration",
        /// Works on images.
        ImageProcessing = "image_processing",
        /// Works on text.
        TextProcessing = "text_processing",
        /// Fetches stored data.
        DataRetrieval = "data_retrieval",
        /// Sends messages to people.
        Communication = "communication",
        /// Makes new content.
        ContentGeneration = "content_generation",
        /// Anything else.
        Custom = "custom",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_read_back_as_it_is_written() {
        for &category in Category::ALL {
            assert_eq!(category.as_str().parse(), Ok(category));
            assert_eq!(serde_json::to_value(category).unwrap(), category.as_str());
        }
        assert!("Public".parse::<Sensitivity>().is_err());
        assert!(Sensitivity::Public < Sensitivity::Restricted);
    }
}
