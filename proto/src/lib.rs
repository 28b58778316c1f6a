//! The contracts: plain tonic output, one module a package, and the shared words in both directions.
//!
//! Convert to and from the domain in the `rpc.rs` of a service, never here.
#![allow(missing_docs, clippy::pedantic, clippy::all, reason = "generated code")]

mod words;

macro_rules! package {
    ($name:ident, $path:literal) => {
        pub mod $name {
            pub mod v1 {
                tonic::include_proto!($path);
            }
        }
    };
}

package!(types, "toolcrib.types.v1");
package!(registry, "toolcrib.registry.v1");
package!(selector, "toolcrib.selector.v1");
package!(executor, "toolcrib.executor.v1");
package!(permissions, "toolcrib.permissions.v1");
package!(audit, "toolcrib.audit.v1");

/// The encoded `FileDescriptorSet` of every contract, for reflection and JSON.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
