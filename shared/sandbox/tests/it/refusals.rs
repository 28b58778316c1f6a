//! Kernels and container runtimes that cannot lock a program in, emulated by filters on one thread and what it
//! starts: the sandbox refuses to start, and says why.

use super::*;
use seccompiler::{SeccompCmpArgLen as Len, SeccompCmpOp as Op, SeccompCondition, SeccompRule};
use std::collections::BTreeMap;

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// The Landlock calls have one number on every architecture.
const CREATE_RULESET: i64 = 444;
const RESTRICT_SELF: i64 = 446;

/// One call, whatever its arguments.
fn call(number: i64) -> Rules {
    Rules::from([(number, vec![])])
}

fn landlock() -> Rules {
    (CREATE_RULESET..=RESTRICT_SELF).map(|number| (number, vec![])).collect()
}

/// `prctl` with this option.
fn prctl(option: i32) -> Rules {
    let condition = SeccompCondition::new(0, Len::Dword, Op::Eq, u64::from(option.unsigned_abs())).unwrap();
    Rules::from([(libc::SYS_prctl, vec![SeccompRule::new(vec![condition]).unwrap()])])
}

/// Setting a limit; reading one stays possible.
fn set_limit() -> Rules {
    let condition = SeccompCondition::new(2, Len::Qword, Op::Ne, 0).unwrap();
    Rules::from([(libc::SYS_prlimit64, vec![SeccompRule::new(vec![condition]).unwrap()])])
}

/// What `Sandbox::start` says on a kernel that answers `errno` to the calls of `rules`.
fn start_without(rules: Rules, errno: i32) -> Option<Result<(), sandbox::Error>> {
    let root = open_folder();
    let config = config(&root)?;
    let started = std::thread::spawn(move || {
        seccompiler::apply_filter(&pods::program(rules, errno)).unwrap(); // for this thread and its children
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { Sandbox::start(config).await.map(drop) })
    });
    let answer = started.join().unwrap();
    let left = std::fs::read_dir(root.path().join("work")).map_or(0, Iterator::count);
    assert_eq!(left, 0, "no folder is left");
    Some(answer)
}

fn refuses(rules: Rules, errno: i32, why: &str) {
    match start_without(rules, errno) {
        None => {}
        Some(Err(error @ sandbox::Error::NotEnforceable { .. })) => {
            assert!(error.to_string().contains(why), "{error}");
        }
        Some(other) => panic!("{why}: {other:?}"),
    }
}

#[test]
fn a_kernel_without_landlock_is_refused() {
    refuses(landlock(), libc::ENOSYS, "the kernel offers Landlock version 0");
    refuses(landlock(), libc::EOPNOTSUPP, "the kernel offers Landlock version 0");
    refuses(call(RESTRICT_SELF), libc::EPERM, "landlock_restrict_self: Operation not permitted");
}

#[test]
fn a_kernel_without_seccomp_is_refused() {
    refuses(prctl(libc::PR_SET_SECCOMP), libc::EINVAL, "PR_SET_SECCOMP: Invalid argument");
    refuses(prctl(libc::PR_SET_SECCOMP), libc::EPERM, "PR_SET_SECCOMP: Operation not permitted");
    refuses(prctl(libc::PR_SET_NO_NEW_PRIVS), libc::EPERM, "PR_SET_NO_NEW_PRIVS");
}

#[test]
fn a_runtime_that_keeps_programs_from_losing_rights_is_refused() {
    refuses(call(libc::SYS_capset), libc::EPERM, "capset");
    refuses(set_limit(), libc::EPERM, "limit ");
    refuses(prctl(libc::PR_SET_DUMPABLE), libc::EPERM, "PR_SET_DUMPABLE");
    if rustix::process::geteuid().is_root() {
        refuses(call(libc::SYS_setresuid), libc::EPERM, "change to the unprivileged user");
        refuses(call(libc::SYS_setgroups), libc::EPERM, "change to the unprivileged user");
    }
}

/// As an emulated kernel may that takes the call and does nothing.
#[test]
fn a_kernel_that_only_says_so_is_found_out() {
    refuses(call(RESTRICT_SELF), 0, "a program got at: files outside");
    refuses(prctl(libc::PR_SET_SECCOMP), 0, "a program got at: the network");
    refuses(set_limit(), 0, "it had no effect");
    if rustix::process::geteuid().is_root() {
        refuses(call(libc::SYS_setresuid), 0, "it had no effect");
    }
}

#[test]
fn the_same_filters_on_calls_that_nobody_makes_stop_nothing() {
    assert!(start_without(call(libc::SYS_swapon), libc::EPERM).is_none_or(|answer| answer.is_ok()));
}
