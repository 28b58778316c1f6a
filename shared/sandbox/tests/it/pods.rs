//! The probes and the bombs where the sandbox will live: on a plain machine, and in a pod as a container runtime makes
//! it by default, as root and as an ordinary user. Each house is a process of its own, so that it can be taken rights
//! away and counted for what is left behind.

use super::*;
use rustix::thread::{CapabilitySet, CapabilitySets};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Len, SeccompCmpOp as Op, SeccompCondition, SeccompFilter,
    SeccompRule,
};
use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// The user that the images of this project run as.
const USER: u32 = 65_532;

/// What containerd and Docker leave to root in a container that asks for nothing.
const CAPABILITIES: [CapabilitySet; 14] = [
    CapabilitySet::CHOWN,
    CapabilitySet::DAC_OVERRIDE,
    CapabilitySet::FSETID,
    CapabilitySet::FOWNER,
    CapabilitySet::MKNOD,
    CapabilitySet::NET_RAW,
    CapabilitySet::SETGID,
    CapabilitySet::SETUID,
    CapabilitySet::SETFCAP,
    CapabilitySet::SETPCAP,
    CapabilitySet::NET_BIND_SERVICE,
    CapabilitySet::SYS_CHROOT,
    CapabilitySet::KILL,
    CapabilitySet::AUDIT_WRITE,
];

/// What their default seccomp profile (`RuntimeDefault`) refuses without further capabilities, on Linux 4.8 and newer.
const REFUSED: &[i64] = &[
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_adjtimex,
    libc::SYS_bpf,
    libc::SYS_clock_adjtime,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
    libc::SYS_fanotify_init,
    libc::SYS_finit_module,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_get_mempolicy,
    libc::SYS_init_module,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_kcmp,
    libc::SYS_kexec_file_load,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_lookup_dcookie,
    libc::SYS_mbind,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_move_pages,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_perf_event_open,
    libc::SYS_personality,
    libc::SYS_pivot_root,
    libc::SYS_quotactl,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_set_mempolicy,
    libc::SYS_setdomainname,
    libc::SYS_sethostname,
    libc::SYS_setns,
    libc::SYS_settimeofday,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_syslog,
    libc::SYS_umount2,
    libc::SYS_unshare,
    libc::SYS_userfaultfd,
    libc::SYS_vhangup,
];

/// Every flag of `clone` that makes a namespace.
const NAMESPACES: [i32; 7] = [
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWNS,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWUTS,
];

/// The runtimes' profile, as near as names and flags of calls come to it.
fn profile() -> [BpfProgram; 2] {
    let equals = |argument, operator, value: i32| {
        let value = u64::from(value.unsigned_abs());
        let condition = SeccompCondition::new(argument, Len::Dword, operator, value).unwrap();
        SeccompRule::new(vec![condition]).unwrap()
    };
    let bit = |flag: i32| equals(0, Op::MaskedEq(u64::from(flag.unsigned_abs())), flag);
    let mut refused: BTreeMap<_, _> = REFUSED.iter().map(|&call| (call, vec![])).collect();
    refused.insert(libc::SYS_clone, NAMESPACES.map(bit).to_vec());
    refused.insert(libc::SYS_socket, vec![equals(0, Op::Eq, libc::AF_VSOCK)]);
    [program(refused, libc::EPERM), program(BTreeMap::from([(libc::SYS_clone3, vec![])]), libc::ENOSYS)]
}

/// Answers `errno` to the calls of `rules`, 0 being a lie that they succeeded.
pub fn program(rules: BTreeMap<i64, Vec<SeccompRule>>, errno: i32) -> BpfProgram {
    let errno = SeccompAction::Errno(errno.unsigned_abs());
    let arch = std::env::consts::ARCH.try_into().unwrap();
    SeccompFilter::new(rules, SeccompAction::Allow, errno, arch).unwrap().try_into().unwrap()
}

/// Gives up what a container does not have. For good: only in a process of its own.
fn enter_pod() {
    if rustix::process::geteuid().is_root() {
        let kept = CAPABILITIES.into_iter().fold(CapabilitySet::empty(), |all, one| all | one);
        for capability in (CapabilitySet::all() - kept).iter() {
            let _ = rustix::thread::remove_capability_from_bounding_set(capability); // newer than the kernel
        }
        let inheritable = CapabilitySet::empty();
        let sets = CapabilitySets { effective: kept, permitted: kept, inheritable };
        rustix::thread::set_capabilities(None, sets).unwrap();
    }
    rustix::thread::set_no_new_privs(true).unwrap(); // allowPrivilegeEscalation: false
    for program in profile() {
        seccompiler::apply_filter_all_threads(&program).unwrap();
    }
    assert!(std::fs::read_link("/proc/1/exe").is_err(), "no right to look at others");
}

async fn everything_is_contained() {
    let Some(fixture) = Fixture::start().await else { return };
    probes::every_way_is_shut(&fixture).await;
    #[cfg(target_arch = "x86_64")]
    probes::another_abi_kills(&fixture).await;
    bombs::all_are_contained(&fixture).await;
}

#[tokio::test]
#[ignore = "run by seventeen_ways_and_every_bomb_are_contained"]
async fn plain_house() {
    everything_is_contained().await;
}

#[tokio::test]
#[ignore = "run by the same in a pod"]
async fn pod_house() {
    enter_pod();
    everything_is_contained().await;
}

/// Runs one of the houses as a process of its own, as `user` where given.
fn live_in(house: &str, user: Option<u32>) {
    let root = open_folder();
    let Some(config) = config(&root) else { return };
    let tools = config.python.ancestors().nth(3).unwrap();
    let (program, tmp) = (root.path().join("house"), root.path().join("tmp"));
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap(); // to where every user can reach it
    std::fs::create_dir(&tmp).unwrap();
    std::fs::set_permissions(&tmp, Permissions::from_mode(0o1777)).unwrap();
    let mut command = Command::new(program);
    command
        .args(["--ignored", "--exact", house, "--nocapture"])
        .env("TMPDIR", &tmp)
        .env("TOOLCRIB_TOOLS", tools)
        .current_dir("/");
    if let Some(user) = user.filter(|_| rustix::process::geteuid().is_root()) {
        command.uid(user).gid(user);
    }
    let output = command.output().unwrap();
    println!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{house}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "{house} was run");
}

#[test]
fn seventeen_ways_and_every_bomb_are_contained() {
    live_in("pods::plain_house", None);
}

#[test]
fn the_same_in_a_default_pod_as_root() {
    if rustix::process::geteuid().is_root() {
        live_in("pods::pod_house", None);
    }
}

#[test]
fn the_same_in_a_default_pod_as_an_ordinary_user() {
    live_in("pods::pod_house", Some(USER));
}
