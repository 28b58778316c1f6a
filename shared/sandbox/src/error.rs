//! What can go wrong around a program. How the program itself ended is never an error: see [`crate::Exit`].
//! Must never hold what a program printed or was given.

use std::io;

/// Why no program was run, or why nobody knows how it ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// This machine cannot lock a program in, so none is run.
    #[error("programs cannot be locked in here: {reason}. {advice}")]
    NotEnforceable {
        /// What is missing or failed.
        reason: String,
        /// What an operator can do about it.
        advice: &'static str,
    },
    /// The Python environment is missing or unfit.
    #[error(
        "the Python environment is unfit: {reason}. Install the Debian packages python3 and python3-venv, then run \
         `make setup`"
    )]
    Python {
        /// What was found instead.
        reason: String,
    },
    /// The forkserver did not come up.
    #[error("the Python forkserver did not start: {reason}")]
    Start {
        /// The last lines it wrote, or the time it had.
        reason: String,
    },
    /// A path in `Job::readable` does not exist or cannot be read by the user that programs run as.
    #[error("unreadable path in the job: {reason}")]
    Readable {
        /// The path and the reason.
        reason: String,
    },
    /// The folder that programs work in could not be made, reached or used.
    #[error("work folder: {0}")]
    Folder(#[from] io::Error),
    /// The forkserver died while the program ran. The program is dead too; it may have run in part.
    #[error("the sandbox was lost while the program ran")]
    Lost,
    /// The sandbox was shut down.
    #[error("the sandbox is shut down")]
    Closed,
}

impl Error {
    /// A protection that the kernel, or the rights we run with, did not give.
    pub(crate) fn not_enforceable(reason: impl Into<String>) -> Self {
        Self::NotEnforceable {
            reason: reason.into(),
            advice: "It takes Linux 5.19 or newer on x86_64 or aarch64 with Landlock (CONFIG_SECURITY_LANDLOCK and \
                     `landlock` in the lsm= boot option) and seccomp, both let through by the container runtime, and \
                     a /proc that shows us our own programs; as root also the capabilities SETUID, SETGID and CHOWN, \
                     or run as an unprivileged user",
        }
    }
}
