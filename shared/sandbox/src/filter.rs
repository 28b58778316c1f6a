//! The seccomp policy: which system calls a program has lost. Must never depend on anything a job says.
//!
//! Calls up to the newest one reviewed here are allowed unless named; every later one, and the x32 calls of x86_64,
//! do not exist (`ENOSYS`). Numbers and flags are the kernel's, through `libc`.

use crate::Error;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Len, SeccompCmpOp as Op, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, sock_filter,
};
use std::collections::BTreeMap;
use std::fmt::Write;

/// `mseal`, Linux 6.10. The generic table gives new calls one number on every architecture.
const NEWEST_REVIEWED: u32 = 462;

/// What the filter has to make up for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Policy {
    /// The kernel's Landlock version: below 3 it does not see truncation, below 6 not signals.
    pub landlock_abi: u32,
    /// Whether programs run as a user that owns nothing else. If not, they must not change modes, owners and times,
    /// which Landlock does not see.
    pub own_user: bool,
}

/// Compiles the policy for this machine, as the bytes of `struct sock_filter[]` in hexadecimal.
pub(crate) fn compile(policy: Policy) -> Result<Vec<String>, Error> {
    let arch = match std::env::consts::ARCH {
        "x86_64" => TargetArch::x86_64,
        "aarch64" => TargetArch::aarch64,
        other => return Err(Error::not_enforceable(format!("no system call filter for {other}"))),
    };
    let programs = programs(policy, arch).map_err(|fault| Error::not_enforceable(fault.to_string()))?;
    Ok(programs.iter().map(|program| hex(program)).collect())
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;
type Compiled<T> = Result<T, seccompiler::BackendError>;

fn programs(policy: Policy, arch: TargetArch) -> Compiled<Vec<BpfProgram>> {
    let refused = program(refused(policy)?, libc::EPERM, arch)?;
    // glibc makes threads with clone3 and falls back to clone, whose flags a filter can read, where that is missing.
    let mut missing = ceiling();
    missing.extend(program(Rules::from([(libc::SYS_clone3, vec![])]), libc::ENOSYS, arch)?);
    Ok(vec![refused, missing])
}

fn program(rules: Rules, errno: i32, arch: TargetArch) -> Compiled<BpfProgram> {
    let errno = SeccompAction::Errno(errno.unsigned_abs());
    SeccompFilter::new(rules, SeccompAction::Allow, errno, arch)?.try_into()
}

/// Refuses every call above the newest reviewed, x32 calls (bit 30) among them.
fn ceiling() -> BpfProgram {
    const LOAD_NUMBER: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS, offset 0 of struct seccomp_data
    const JUMP_IF_GREATER: u16 = 0x25; // BPF_JMP | BPF_JGT | BPF_K
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K
    let enosys = u32::from(SeccompAction::Errno(libc::ENOSYS.unsigned_abs()));
    vec![
        sock_filter { code: LOAD_NUMBER, jt: 0, jf: 0, k: 0 },
        sock_filter { code: JUMP_IF_GREATER, jt: 0, jf: 1, k: NEWEST_REVIEWED },
        sock_filter { code: RETURN, jt: 0, jf: 0, k: enosys },
    ]
}

/// Calls refused whatever their arguments.
const ALWAYS: &[i64] = &[
    // Sockets: a pair of its own is all a program gets. An address would reach past Landlock, as would a message.
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_sendmsg,
    libc::SYS_sendmmsg,
    // Other programs.
    libc::SYS_execve,
    libc::SYS_execveat,
    // Namespaces and mounts.
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    457, // statmount
    458, // listmount
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_process_mrelease,
    libc::SYS_kcmp,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_send_signal,
    libc::SYS_migrate_pages,
    libc::SYS_move_pages,
    libc::SYS_setpriority,
    libc::SYS_setpgid, // by which the forkserver names all threads of a program
    libc::SYS_setsid,
    libc::SYS_ioprio_set,
    libc::SYS_sched_setattr,
    libc::SYS_sched_setparam,
    libc::SYS_sched_setscheduler,
    // Memory that no limit counts, and ways to meet other programs.
    libc::SYS_memfd_create,
    libc::SYS_memfd_secret,
    libc::SYS_shmget,
    libc::SYS_shmat,
    libc::SYS_shmctl,
    libc::SYS_semget,
    libc::SYS_semop,
    libc::SYS_semtimedop,
    libc::SYS_semctl,
    libc::SYS_msgget,
    libc::SYS_msgsnd,
    libc::SYS_msgrcv,
    libc::SYS_msgctl,
    libc::SYS_mq_open,
    libc::SYS_mq_unlink,
    // Kernel interfaces that a program has no business with and that have been the way out of sandboxes.
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_fanotify_init,
    libc::SYS_fanotify_mark,
    libc::SYS_inotify_init1,
    libc::SYS_inotify_add_watch,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_personality,
    libc::SYS_syslog,
    // Administration of the machine.
    libc::SYS_acct,
    libc::SYS_adjtimex,
    libc::SYS_clock_adjtime,
    libc::SYS_clock_settime,
    libc::SYS_settimeofday,
    libc::SYS_delete_module,
    libc::SYS_finit_module,
    libc::SYS_init_module,
    libc::SYS_kexec_file_load,
    libc::SYS_kexec_load,
    libc::SYS_quotactl,
    443, // quotactl_fd
    libc::SYS_reboot,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_vhangup,
];

#[cfg(target_arch = "x86_64")]
const ALWAYS_HERE: &[i64] = &[
    libc::SYS_fork,
    libc::SYS_vfork,
    libc::SYS_inotify_init,
    libc::SYS_ioperm,
    libc::SYS_iopl,
    libc::SYS_modify_ldt,
    libc::SYS_kexec_file_load,
];
#[cfg(not(target_arch = "x86_64"))]
const ALWAYS_HERE: &[i64] = &[];

/// Modes, owners, times and attributes of files.
const METADATA: &[i64] = &[
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchmodat2,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_utimensat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
];

#[cfg(target_arch = "x86_64")]
const METADATA_HERE: &[i64] = &[
    libc::SYS_chmod,
    libc::SYS_chown,
    libc::SYS_lchown,
    libc::SYS_utime,
    libc::SYS_utimes,
    libc::SYS_futimesat,
];
#[cfg(not(target_arch = "x86_64"))]
const METADATA_HERE: &[i64] = &[];

/// Signals to anybody. Where Landlock sees signals it confines them to the program instead.
const SIGNALS: &[i64] = &[
    libc::SYS_kill,
    libc::SYS_tkill,
    libc::SYS_tgkill,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
];

/// Every call that ends in `EPERM`, with the arguments for which it does.
fn refused(policy: Policy) -> Compiled<Rules> {
    let mut rules = Rules::new();
    let mut forbid = |calls: &[i64]| rules.extend(calls.iter().map(|&call| (call, vec![])));
    forbid(ALWAYS);
    forbid(ALWAYS_HERE);
    if !policy.own_user {
        forbid(METADATA);
        forbid(METADATA_HERE);
    }
    if policy.landlock_abi < 6 {
        forbid(SIGNALS);
        rules.insert(
            libc::SYS_fcntl,
            vec![when(1, Op::Eq, flag(libc::F_SETOWN))?, when(1, Op::Eq, 15 /* F_SETOWN_EX */)?],
        );
    }
    if policy.landlock_abi < 3 {
        rules.extend(truncation()?);
    }
    rules.extend(by_argument()?);
    Ok(rules)
}

fn by_argument() -> Compiled<Rules> {
    let not_unix = |argument| when(argument, Op::Ne, flag(libc::AF_UNIX));
    let lacks = |bit| when(0, Op::MaskedEq(flag(bit)), 0);
    let has_address = SeccompCondition::new(4, Len::Qword, Op::Ne, 0)?;
    Ok(Rules::from([
        (libc::SYS_socket, vec![not_unix(0)?]),
        (libc::SYS_socketpair, vec![not_unix(0)?]),
        (libc::SYS_sendto, vec![SeccompRule::new(vec![has_address])?]),
        // A thread with a table of open files of its own could hold files that nobody sees.
        (libc::SYS_clone, vec![lacks(libc::CLONE_THREAD)?, lacks(libc::CLONE_FILES)?]),
        (libc::SYS_close_range, vec![when(2, Op::Ne, 0)?]),
        // A child that took this back would outlive us, or could not be looked at.
        (
            libc::SYS_prctl,
            vec![
                when(0, Op::Eq, flag(libc::PR_SET_PDEATHSIG))?,
                when(0, Op::Eq, flag(libc::PR_SET_DUMPABLE))?,
            ],
        ),
        // Only its own limits and processors, not those of another program of the same user.
        (libc::SYS_prlimit64, vec![when(0, Op::Ne, 0)?]),
        (libc::SYS_sched_setaffinity, vec![when(0, Op::Ne, 0)?]),
    ]))
}

/// Emptying files that are open, or could be opened, for reading only.
fn truncation() -> Compiled<Rules> {
    let read_and_truncate = |argument| {
        let mask = flag(libc::O_ACCMODE | libc::O_TRUNC);
        when(argument, Op::MaskedEq(mask), flag(libc::O_RDONLY | libc::O_TRUNC))
    };
    let mut rules = Rules::from([
        (libc::SYS_truncate, vec![]),
        (libc::SYS_openat, vec![read_and_truncate(2)?]),
        (libc::SYS_openat2, vec![]), // its flags are out of a filter's sight
    ]);
    if cfg!(target_arch = "x86_64") {
        rules.insert(2 /* open */, vec![read_and_truncate(1)?]);
    }
    Ok(rules)
}

/// A rule on the low 32 bits of one argument.
fn when(argument: u8, operator: Op, value: u64) -> Compiled<SeccompRule> {
    SeccompRule::new(vec![SeccompCondition::new(argument, Len::Dword, operator, value)?])
}

fn flag(bits: i32) -> u64 {
    u64::from(bits.unsigned_abs())
}

fn hex(program: &[sock_filter]) -> String {
    let mut text = String::with_capacity(program.len() * 16);
    for step in program {
        let (code, k) = (step.code.to_ne_bytes(), step.k.to_ne_bytes());
        for byte in [code[0], code[1], step.jt, step.jf, k[0], k[1], k[2], k[3]] {
            let _ = write!(text, "{byte:02x}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALLOW: u32 = 0x7fff_0000;
    const HERE: u32 = if cfg!(target_arch = "x86_64") { 0xc000_003e } else { 0xc000_00b7 };

    /// Runs compiled programs as the kernel does and gives the errno of the strictest answer, 0 for allowed.
    fn answer(policy: Policy, call: i64, arguments: &[u64]) -> u32 {
        let arch = if cfg!(target_arch = "x86_64") { TargetArch::x86_64 } else { TargetArch::aarch64 };
        let data = data(call, HERE, arguments);
        let answers: Vec<u32> = programs(policy, arch).unwrap().iter().map(|p| interpret(p, &data)).collect();
        answers.iter().find(|&&answer| answer != ALLOW).map_or(0, |answer| answer & 0xffff)
    }

    fn data(call: i64, arch: u32, arguments: &[u64]) -> Vec<u8> {
        let mut data = Vec::from(i32::try_from(call).unwrap().to_ne_bytes());
        data.extend(arch.to_ne_bytes());
        data.extend(0_u64.to_ne_bytes());
        (0..6).for_each(|i| data.extend(arguments.get(i).copied().unwrap_or(0).to_ne_bytes()));
        data
    }

    fn interpret(program: &[sock_filter], data: &[u8]) -> u32 {
        let (mut at, mut a) = (0, 0_u32);
        loop {
            let step = &program[at];
            let jump = |yes: bool| 1 + usize::from(if yes { step.jt } else { step.jf });
            at += match step.code {
                0x20 => {
                    let from = step.k as usize;
                    a = u32::from_ne_bytes(data[from..from + 4].try_into().unwrap());
                    1
                }
                0x54 => {
                    a &= step.k;
                    1
                }
                0x05 => 1 + step.k as usize,
                0x15 => jump(a == step.k),
                0x25 => jump(a > step.k),
                0x35 => jump(a >= step.k),
                0x06 => return step.k,
                other => panic!("unknown instruction {other:#x}"),
            };
        }
    }

    const NEW: Policy = Policy { landlock_abi: 7, own_user: true };
    const OLD: Policy = Policy { landlock_abi: 2, own_user: false };
    const EPERM: u32 = 1;
    const ENOSYS: u32 = 38;

    #[test]
    fn sockets_other_than_unix_pairs_are_refused() {
        assert_eq!(answer(NEW, libc::SYS_socket, &[2]), EPERM);
        assert_eq!(answer(NEW, libc::SYS_socket, &[10]), EPERM);
        assert_eq!(answer(NEW, libc::SYS_socket, &[16]), EPERM, "netlink");
        assert_eq!(
            answer(NEW, libc::SYS_socket, &[(1 << 32) | 2]),
            EPERM,
            "the kernel ignores the high half"
        );
        assert_eq!(answer(NEW, libc::SYS_socketpair, &[1]), 0);
        assert_eq!(answer(NEW, libc::SYS_connect, &[]), EPERM);
        assert_eq!(answer(NEW, libc::SYS_sendto, &[3, 0, 0, 0, 0, 0]), 0);
        assert_eq!(answer(NEW, libc::SYS_sendto, &[3, 0, 0, 0, 1 << 40, 16]), EPERM);
    }

    #[test]
    fn threads_start_and_processes_do_not() {
        let shared = libc::CLONE_VM | libc::CLONE_FILES;
        assert_eq!(answer(NEW, libc::SYS_clone, &[flag(libc::CLONE_THREAD | shared)]), 0);
        assert_eq!(answer(NEW, libc::SYS_clone, &[flag(libc::CLONE_THREAD | libc::CLONE_VM)]), EPERM);
        assert_eq!(answer(NEW, libc::SYS_clone, &[flag(shared | libc::SIGCHLD)]), EPERM);
        assert_eq!(answer(NEW, libc::SYS_clone, &[flag(libc::SIGCHLD)]), EPERM);
        assert_eq!(answer(NEW, libc::SYS_clone3, &[]), ENOSYS);
        assert_eq!(answer(NEW, libc::SYS_execve, &[]), EPERM);
    }

    #[test]
    fn calls_nobody_reviewed_do_not_exist() {
        assert_eq!(answer(NEW, i64::from(NEWEST_REVIEWED), &[]), 0);
        assert_eq!(answer(NEW, i64::from(NEWEST_REVIEWED) + 1, &[]), ENOSYS);
        assert_eq!(answer(NEW, (1 << 30) | libc::SYS_socket, &[2]), ENOSYS, "x32");
    }

    #[test]
    fn a_call_of_another_architecture_kills() {
        let compiled = programs(NEW, TargetArch::x86_64).unwrap();
        let i386 = data(102, 0x4000_0003, &[]);
        assert_eq!(interpret(&compiled[0], &i386), 0x8000_0000);
    }

    #[test]
    fn the_filter_makes_up_for_an_old_landlock() {
        let emptying = [0, 0, flag(libc::O_RDONLY | libc::O_TRUNC)];
        for (call, arguments) in [
            (libc::SYS_kill, &[0_u64; 3]),
            (libc::SYS_truncate, &[0; 3]),
            (libc::SYS_openat, &emptying),
            (libc::SYS_fcntl, &[0, 8, 0]),
            (libc::SYS_fchmodat, &[0; 3]),
        ] {
            assert_eq!(answer(NEW, call, arguments), 0, "{call}");
            assert_eq!(answer(OLD, call, arguments), EPERM, "{call}");
        }
        assert_eq!(answer(OLD, libc::SYS_openat, &[0, 0, flag(libc::O_WRONLY | libc::O_TRUNC)]), 0);
    }

    #[test]
    fn a_program_cannot_outlive_or_touch_others() {
        assert_eq!(answer(NEW, libc::SYS_prctl, &[1]), EPERM);
        assert_eq!(answer(NEW, libc::SYS_prctl, &[4, 0]), EPERM, "to hide from the forkserver");
        assert_eq!(answer(NEW, libc::SYS_close_range, &[3, 9, 2]), EPERM, "a table of open files of its own");
        assert_eq!(answer(NEW, libc::SYS_close_range, &[3, 9, 0]), 0);
        assert_eq!(answer(NEW, libc::SYS_prlimit64, &[1]), EPERM);
        assert_eq!(answer(NEW, libc::SYS_prlimit64, &[0]), 0);
        for &call in ALWAYS.iter().chain(ALWAYS_HERE) {
            assert_eq!(answer(NEW, call, &[]), EPERM, "{call}");
        }
    }

    #[test]
    fn what_programs_live_on_is_allowed() {
        for call in [libc::SYS_read, libc::SYS_write, libc::SYS_openat, libc::SYS_mmap, libc::SYS_futex] {
            assert_eq!(answer(OLD, call, &[]), 0, "{call}");
        }
    }

    #[test]
    fn the_wire_form_is_eight_bytes_an_instruction() {
        assert_eq!(hex(&ceiling()[..1]), "2000000000000000");
    }
}
