//! `dlog serve` as a child process.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::{PATIENCE, wait_for};

/// Path of the `dlog` binary: `DLOG_BIN`, or the one that was built beside this test.
///
/// # Errors
/// When there is none.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("DLOG_BIN") {
        return Ok(path.into());
    }
    let test = std::env::current_exe()?;
    let profile = test
        .parent()
        .and_then(Path::parent)
        .context("a test runs in target/PROFILE/deps")?;
    let target = profile
        .parent()
        .context("a profile's folder is in the target folder")?;
    for candidate in [
        profile.join("dlog"),
        target.join("release/dlog"),
        target.join("debug/dlog"),
    ] {
        if candidate.is_file() {
            return Ok(candidate);
        }
    }
    bail!(
        "no dlog binary in {}: `cargo build -p dlog` first, or set DLOG_BIN",
        target.display()
    )
}

/// A running server. Dropped, it is killed; when the test is failing, the end of its log is shown.
#[derive(Debug)]
pub struct Server {
    child: Child,
    stderr: PathBuf,
    /// Address of the Kafka listener.
    pub kafka: SocketAddr,
    /// Address of the HTTP listener.
    pub http: Option<SocketAddr>,
    /// From the start of the process to its ready line.
    pub start_up: Duration,
}

/// How to start a server.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    data_dir: PathBuf,
    log_dir: PathBuf,
    args: Vec<String>,
}

impl ServerOptions {
    /// A server on this data folder, on free ports of the loopback address. Its log goes beside the
    /// folder.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        let data_dir = data_dir.into();
        let log_dir = data_dir.parent().map(Path::to_path_buf).unwrap_or_default();
        Self {
            data_dir,
            log_dir,
            args: Vec::new(),
        }
    }

    /// Puts the server's log into another folder: its own may be full or read-only.
    pub fn log_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.log_dir = dir.into();
        self
    }

    /// Adds arguments of `dlog serve`.
    pub fn args(mut self, args: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    fn spawn(&self) -> Result<(Child, PathBuf)> {
        let mut command = Command::new(binary()?);
        // The test's own: to the server it would be a setting that does not exist.
        command.env_remove("DLOG_SEED");
        command.arg("serve").arg("--data-dir").arg(&self.data_dir);
        for (flag, value) in [("--kafka", "127.0.0.1:0"), ("--http", "127.0.0.1:0")] {
            if !self.args.iter().any(|arg| arg == flag) {
                command.args([flag, value]);
            }
        }
        command.args(&self.args);
        let stderr = self
            .log_dir
            .join(format!("server-{}.log", rand::random::<u32>()));
        let log =
            File::create(&stderr).with_context(|| format!("cannot create {}", stderr.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()?;
        Ok((child, stderr))
    }

    /// Starts the server and waits for its ready line.
    ///
    /// # Errors
    /// When it ends instead, with its log.
    pub fn start(&self) -> Result<Server> {
        let begin = Instant::now();
        let (mut child, stderr) = self.spawn()?;
        let stdout = child.stdout.take().context("standard output is piped")?;
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            // Reads on to the end: a server that cannot write would stop.
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if line.starts_with("ready ") {
                    let _ = sender.send(line);
                }
            }
        });
        // The channel closes when the process ends without a ready line.
        let Ok(ready) = receiver.recv_timeout(PATIENCE) else {
            let _ = child.kill();
            let status = child.wait()?;
            bail!(
                "the server did not become ready ({status}):\n{}",
                tail(&stderr)
            );
        };
        let start_up = begin.elapsed();
        let field = |name: &str| {
            ready
                .split(' ')
                .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
        };
        let kafka = field("kafka")
            .and_then(|list| list.split(',').next())
            .context("no kafka= in the ready line")?;
        let http =
            field("http").and_then(|address| address.trim_start_matches("http://").parse().ok());
        let kafka = kafka
            .parse()
            .with_context(|| format!("ready line: {ready}"))?;
        Ok(Server {
            child,
            stderr,
            kafka,
            http,
            start_up,
        })
    }

    /// Starts a server that is expected to refuse to; gives its exit status and its log.
    ///
    /// # Errors
    /// When it does not end.
    pub fn refused(&self) -> Result<(ExitStatus, String)> {
        let (mut child, stderr) = self.spawn()?;
        let status = wait_for("the server to refuse", || child.try_wait().ok().flatten());
        let _ = child.kill();
        let _ = child.wait();
        let log = std::fs::read_to_string(&stderr)?;
        Ok((status.with_context(|| log.clone())?, log))
    }
}

impl Server {
    /// A server on a data folder with default settings.
    ///
    /// # Errors
    /// As [`ServerOptions::start`].
    pub fn start(data_dir: &Path) -> Result<Self> {
        ServerOptions::new(data_dir).start()
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether the process has not ended.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// SIGKILL, and waits until the process is gone.
    ///
    /// # Errors
    /// The operating system's error.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Sends SIGTERM.
    ///
    /// # Errors
    /// The operating system's error.
    pub fn terminate(&self) -> Result<()> {
        let pid = i32::try_from(self.pid())
            .ok()
            .and_then(Pid::from_raw)
            .context("a process id")?;
        Ok(kill_process(pid, Signal::TERM)?)
    }

    /// Waits until the process has ended by itself; gives its status and its log.
    ///
    /// # Errors
    /// When it does not end.
    pub fn wait(mut self) -> Result<(ExitStatus, String)> {
        let status = wait_for("the server to end", || self.child.try_wait().ok().flatten())?;
        Ok((status, self.log()?))
    }

    /// What the server has logged.
    ///
    /// # Errors
    /// The operating system's error.
    pub fn log(&self) -> Result<String> {
        Ok(String::from_utf8_lossy(&std::fs::read(&self.stderr)?).into_owned())
    }

    /// Resident memory of the process now, in bytes.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn resident_bytes(&self) -> Result<u64> {
        self.status_field("VmRSS:")
    }

    /// Largest resident memory that the process ever had, in bytes.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn peak_resident_bytes(&self) -> Result<u64> {
        self.status_field("VmHWM:")
    }

    /// Number of open sockets of the process.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn open_sockets(&self) -> Result<usize> {
        let files = std::fs::read_dir(format!("/proc/{}/fd", self.pid()))?;
        // A file may be closed between listing and looking.
        let targets = files.filter_map(|file| std::fs::read_link(file.ok()?.path()).ok());
        Ok(targets
            .filter(|target| target.to_string_lossy().starts_with("socket:"))
            .count())
    }

    fn status_field(&self, name: &str) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .context("the process has ended")?;
        let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
        Ok(kib << 10)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the server's log ends with:\n{}", tail(&self.stderr));
        }
    }
}

fn tail(path: &Path) -> String {
    let log = std::fs::read(path)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default();
    let lines: Vec<_> = log.lines().collect();
    lines[lines.len().saturating_sub(12)..].join("\n")
}
