//! The kinds of failure, free of any transport. `rpc::status` is the only table to gRPC codes.

/// What kind of failure an error is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The request itself is wrong.
    Invalid,
    /// The caller did not prove who it is.
    Unauthenticated,
    /// The caller may not do this.
    Denied,
    /// The named thing does not exist.
    NotFound,
    /// The thing exists already.
    AlreadyExists,
    /// The state of the system does not allow it now.
    Precondition,
    /// A limit is used up.
    Exhausted,
    /// Something needed cannot be reached; trying again may help.
    Unavailable,
    /// The deadline passed.
    Deadline,
    /// A fault of our own.
    Internal,
}
