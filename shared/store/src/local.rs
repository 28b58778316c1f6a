//! A private PostgreSQL cluster for one developer's machine and for tests: unix socket only, never run
//! as root, and never longer than the process that started it.

use std::{
    fs::{self, File},
    io,
    os::unix::{
        fs::{MetadataExt, PermissionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    time::Duration,
};

use secrecy::SecretString;
use sqlx::{Connection, PgConnection};
use tokio::sync::oneshot;

use crate::hold::{self, Hold};

/// Longest path of a unix socket (`sun_path`, unix(7)), less PostgreSQL's own file name.
const MAX_SOCKET_DIR: usize = 107 - "/.s.PGSQL.5432".len();
/// How long the server may take to start, recovery after a crash included.
const START_TIMEOUT: Duration = Duration::from_mins(1);
/// Name of the database superuser of a private cluster.
const DATABASE_USER: &str = "toolcrib";

/// Where and how a private cluster runs.
#[derive(Debug, Clone)]
pub struct LocalOptions {
    /// Folder of the cluster; made when it is missing.
    pub directory: PathBuf,
    /// Whether commits reach the disk. Only tests that do not test durability may say no.
    pub fsync: bool,
}

/// Why a private cluster cannot run.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// No server binaries.
    #[error(
        "PostgreSQL 15 or newer is not installed; on Debian: apt-get install postgresql (or `make setup`)"
    )]
    NotInstalled,
    /// Root has no one to run it as.
    #[error("PostgreSQL does not run as root, and this machine has neither a user postgres nor nobody")]
    NoUser,
    /// The unprivileged user cannot reach the folder.
    #[error("user {user} cannot reach {}; choose a folder that it can, such as one under /var/lib", directory.display())]
    Unreachable {
        /// The user.
        user: String,
        /// The folder.
        directory: PathBuf,
    },
    /// Another process runs a server in the folder.
    #[error("another toolcrib runs the database in {}; stop it, or choose another folder", directory.display())]
    Held {
        /// The folder.
        directory: PathBuf,
    },
    /// A program failed.
    #[error("{program} failed with {status}: {output}")]
    Program {
        /// Its name.
        program: &'static str,
        /// Its end.
        status: ExitStatus,
        /// The end of its output.
        output: String,
    },
    /// The server ended or did not answer in time.
    #[error("PostgreSQL did not start; the end of {}: {tail}", log.display())]
    NotStarted {
        /// Its log file.
        log: PathBuf,
        /// The end of it.
        tail: String,
    },
    /// A file could not be made or read.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// The reason.
        source: io::Error,
    },
}

/// A user of this machine without rights of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Its name.
    pub name: String,
    /// Its user id.
    pub uid: u32,
    /// Its group id.
    pub gid: u32,
}

/// The user to run the server as: `None` when we are not root and it runs as ourselves.
pub fn unprivileged_user() -> Result<Option<User>, LocalError> {
    if !rustix::process::getuid().is_root() {
        return Ok(None);
    }
    let passwd = fs::read_to_string("/etc/passwd").map_err(io_error("reading /etc/passwd"))?;
    let find = |name: &str| passwd.lines().find_map(|line| user_of(line).filter(|user| user.name == name));
    find("postgres").or_else(|| find("nobody")).map(Some).ok_or(LocalError::NoUser)
}

fn user_of(line: &str) -> Option<User> {
    let mut fields = line.split(':');
    let name = fields.next()?.to_owned();
    let (uid, gid) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(User { name, uid, gid })
}

/// Whether a user may pass every folder down to this path. Folders that do not exist yet do not stop it.
pub fn user_can_reach(user: &User, path: &Path) -> bool {
    path.ancestors().filter_map(|folder| fs::metadata(folder).ok()).all(|folder| {
        let execute = match (folder.uid() == user.uid, folder.gid() == user.gid) {
            (true, _) => 0o100,
            (_, true) => 0o010,
            _ => 0o001,
        };
        folder.mode() & execute != 0
    })
}

/// A running private cluster. Stops with this value, and with this process even when it is killed.
#[derive(Debug)]
pub struct LocalCluster {
    socket_dir: PathBuf,
    pid: rustix::process::Pid,
    ended: Option<oneshot::Receiver<()>>,
    hold: Option<Hold>,
}

impl LocalCluster {
    /// Makes the cluster if it is not there, starts it, and waits until it answers. The server of a process that
    /// was killed is left the time to end.
    pub async fn start(options: &LocalOptions) -> Result<Self, LocalError> {
        let binaries = find_binaries().ok_or(LocalError::NotInstalled)?;
        let user = unprivileged_user()?;
        let directory = prepare_directory(&options.directory, user.as_ref())?;
        let hold = Some(Hold::take(&directory)?);
        let data = directory.join("data");
        hold::wait_for_old_server(&data, START_TIMEOUT).await;
        if !data.join("PG_VERSION").exists() {
            initialise(&binaries, &data, user.as_ref(), options.fsync).await?;
        }
        let socket_dir = socket_dir(&directory, user.as_ref())?;
        let log = directory.join("postgres.log");
        let mut command = as_user(&binaries.join("postgres"), user.as_ref());
        command.arg("-D").arg(&data).arg("-k").arg(&socket_dir).args(settings(options.fsync));
        let output = File::create(&log).map_err(io_error("creating the server's log"))?;
        command.stdout(output.try_clone().map_err(io_error("using the server's log"))?).stderr(output);
        let (pid, ended) = spawn_bound_to_this_process(command).await?;
        let mut cluster = Self { socket_dir, pid, ended: Some(ended), hold };
        cluster.wait_until_ready(&log).await?;
        Ok(cluster)
    }

    /// URL of one of its databases.
    pub fn url(&self, database: &str) -> SecretString {
        format!("postgres:///{database}?host={}&user={DATABASE_USER}", self.socket_dir.display()).into()
    }

    /// Creates a database unless it is there.
    pub async fn create_database(&self, name: &str, template: &str) -> Result<(), crate::Error> {
        let url = self.url("postgres");
        let mut connection = PgConnection::connect(secrecy::ExposeSecret::expose_secret(&url)).await?;
        let exists: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)")
            .bind(name)
            .fetch_one(&mut connection)
            .await?;
        if !exists {
            // Both names come from the program, never from outside.
            let create = sqlx::AssertSqlSafe(format!("CREATE DATABASE \"{name}\" TEMPLATE \"{template}\""));
            sqlx::query(create).execute(&mut connection).await?;
        }
        Ok(connection.close().await?)
    }

    /// Asks it to stop (fast shutdown) and waits until it has.
    pub async fn stop(mut self) {
        let _ = rustix::process::kill_process(self.pid, rustix::process::Signal::INT);
        if let Some(ended) = self.ended.take() {
            let _ = ended.await;
        }
    }

    /// Resolves when the server has ended, by itself or by someone else's hand.
    pub async fn ended(&mut self) {
        if let Some(ended) = self.ended.as_mut() {
            // Sent or dropped: either way the server is gone.
            let _ = ended.await;
            self.ended = None;
            drop(self.hold.take());
        }
    }

    async fn wait_until_ready(&mut self, log: &Path) -> Result<(), LocalError> {
        let url = self.url("postgres");
        let connects = async {
            while PgConnection::connect(secrecy::ExposeSecret::expose_secret(&url)).await.is_err() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::select! {
            () = connects => Ok(()),
            () = self.ended() => Err(not_started(log)),
            () = tokio::time::sleep(START_TIMEOUT) => Err(not_started(log)),
        }
    }
}

impl Drop for LocalCluster {
    fn drop(&mut self) {
        if self.ended.is_some() {
            let _ = rustix::process::kill_process(self.pid, rustix::process::Signal::INT);
        }
    }
}

fn settings(fsync: bool) -> Vec<String> {
    let on_off = if fsync { "on" } else { "off" };
    ["listen_addresses=", "unix_socket_permissions=0700", "max_connections=200", "shared_buffers=128MB"]
        .into_iter()
        .map(str::to_owned)
        .chain(["fsync", "full_page_writes"].map(|name| format!("{name}={on_off}")))
        .flat_map(|setting| ["-c".to_owned(), setting])
        .collect()
}

/// The folder of the newest server on this machine, 15 or later.
fn find_binaries() -> Option<PathBuf> {
    let debian = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().filter_map(|version| {
        let number: u32 = version.file_name().to_str()?.parse().ok()?;
        Some((number, version.path().join("bin")))
    });
    let debian = debian.filter(|(number, bin)| *number >= 15 && bin.join("postgres").exists());
    debian.max().map(|(_, bin)| bin).or_else(|| {
        let output = Command::new("pg_config").arg("--bindir").output().ok()?;
        let bin = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim());
        bin.join("postgres").exists().then_some(bin)
    })
}

fn prepare_directory(directory: &Path, user: Option<&User>) -> Result<PathBuf, LocalError> {
    fs::create_dir_all(directory).map_err(io_error(format!("creating {}", directory.display())))?;
    let directory = directory.canonicalize().map_err(io_error("finding the cluster's folder"))?;
    if let Some(user) = user {
        if !directory.parent().is_none_or(|parent| user_can_reach(user, parent)) {
            return Err(LocalError::Unreachable { user: user.name.clone(), directory });
        }
        chown(&directory, Some(user.uid), Some(user.gid))
            .map_err(io_error("giving the cluster its folder"))?;
    }
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o700))
        .map_err(io_error("closing the cluster's folder to others"))?;
    Ok(directory)
}

/// The cluster's own folder, or one under the temporary folder where the path would be too long.
fn socket_dir(directory: &Path, user: Option<&User>) -> Result<PathBuf, LocalError> {
    if directory.as_os_str().len() <= MAX_SOCKET_DIR {
        return Ok(directory.to_owned());
    }
    let inode = fs::metadata(directory).map_err(io_error("finding the cluster's folder"))?.ino();
    prepare_directory(&std::env::temp_dir().join(format!("toolcrib-{inode}")), user)
}

/// Makes the data folder under another name first: one that was cut short is made anew, never started.
async fn initialise(
    binaries: &Path,
    data: &Path,
    user: Option<&User>,
    fsync: bool,
) -> Result<(), LocalError> {
    let unfinished = data.with_extension("new");
    match fs::remove_dir_all(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(io_error("removing an unfinished cluster")(error));
        }
        _ => {}
    }
    let mut command = as_user(&binaries.join("initdb"), user);
    command.arg("-D").arg(&unfinished);
    command.args(["-U", DATABASE_USER, "--auth=trust", "-E", "UTF8", "--locale=C.UTF-8"]);
    command.args((!fsync).then_some("--no-sync"));
    let output = tokio::task::spawn_blocking(move || command.output())
        .await
        .map_err(|error| LocalError::Io { what: "running initdb".into(), source: io::Error::other(error) })?
        .map_err(io_error("running initdb"))?;
    if output.status.success() {
        fs::rename(&unfinished, data).map_err(io_error("naming the new cluster"))?;
        // The name must last as long as what will be written under it.
        let parent = data.parent().unwrap_or(data);
        return File::open(parent)
            .and_then(|parent| parent.sync_all())
            .map_err(io_error("keeping the new cluster"));
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(LocalError::Program { program: "initdb", status: output.status, output: tail(&text) })
}

/// A command without our environment, as the unprivileged user where there is one.
fn as_user(program: &Path, user: Option<&User>) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("LC_ALL", "C.UTF-8")
        .current_dir("/")
        .stdin(Stdio::null());
    if let Some(user) = user {
        command.uid(user.uid).gid(user.gid);
    }
    command
}

/// Starts a program that gets SIGINT when this process ends, however it ends. The signal is bound to the
/// thread that forks (prctl(2), PR_SET_PDEATHSIG), hence a thread that lives as long as the program.
async fn spawn_bound_to_this_process(
    mut command: Command,
) -> Result<(rustix::process::Pid, oneshot::Receiver<()>), LocalError> {
    let (started, start) = oneshot::channel();
    let (end, ended) = oneshot::channel();
    std::thread::spawn(move || {
        command.process_group(0);
        // SAFETY: prctl(2) is async-signal-safe and touches nothing of the parent's memory.
        unsafe {
            command.pre_exec(|| {
                Ok(rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::INT))?)
            });
        }
        match command.spawn() {
            Ok(mut child) => {
                let _ = started.send(Ok(rustix::process::Pid::from_child(&child)));
                let _ = child.wait();
                let _ = end.send(());
            }
            Err(error) => drop(started.send(Err(error))),
        }
    });
    let lost =
        |_| LocalError::Io { what: "starting postgres".into(), source: io::ErrorKind::BrokenPipe.into() };
    let pid = start.await.map_err(lost)?.map_err(io_error("starting postgres"))?;
    Ok((pid, ended))
}

fn not_started(log: &Path) -> LocalError {
    let text = fs::read_to_string(log).unwrap_or_default();
    LocalError::NotStarted { log: log.to_owned(), tail: tail(&text) }
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.trim().lines().collect();
    lines[lines.len().saturating_sub(5)..].join(" | ")
}

pub(crate) fn io_error(what: impl Into<String>) -> impl FnOnce(io::Error) -> LocalError {
    let what = what.into();
    move |source| LocalError::Io { what, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_home_stops_another_user() {
        let root = tempfile::tempdir().unwrap();
        let home = root.path().join("home");
        let inside = home.join("checkout");
        fs::create_dir_all(&inside).unwrap();
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let stranger = User { name: "stranger".into(), uid: 4_000_000, gid: 4_000_000 };
        fs::set_permissions(&home, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(user_can_reach(&stranger, &inside.join("not/there/yet")));
        fs::set_permissions(&home, fs::Permissions::from_mode(0o700)).unwrap();
        assert!(!user_can_reach(&stranger, &inside));
    }

    #[test]
    fn a_line_of_passwd_is_read() {
        let user = user_of("postgres:x:101:104:PostgreSQL,,,:/var/lib/postgresql:/bin/bash").unwrap();
        assert_eq!((user.name.as_str(), user.uid, user.gid), ("postgres", 101, 104));
        assert_eq!(user_of("broken"), None);
    }

    #[tokio::test]
    async fn a_cluster_starts_answers_and_stops() {
        let root = tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o755)).tempdir().unwrap();
        let options = LocalOptions { directory: root.path().join("postgres"), fsync: false };
        // What an initdb leaves that was killed.
        fs::create_dir_all(options.directory.join("data.new/base")).unwrap();
        let cluster = LocalCluster::start(&options).await.unwrap();
        cluster.create_database("one", "template0").await.unwrap();
        cluster.create_database("one", "template0").await.unwrap();
        let url = cluster.url("one");
        let mut connection = PgConnection::connect(secrecy::ExposeSecret::expose_secret(&url)).await.unwrap();
        let tcp: String =
            sqlx::query_scalar("SHOW listen_addresses").fetch_one(&mut connection).await.unwrap();
        assert_eq!(tcp, "");
        cluster.stop().await;
        assert!(PgConnection::connect(secrecy::ExposeSecret::expose_secret(&url)).await.is_err());
        LocalCluster::start(&options).await.unwrap().stop().await;
    }
}
