//! The client processes of a run: started, killed, stopped, followed by their next instances.
//!
//! Each start has a number of its own, which is the `process` of the history that it writes. *Who ends without
//! having been asked to has crashed, and that is written down after its end.*

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use dlog_history::merge::{Timed, crash, read_timed};
use rustix::process::{Pid, Signal, kill_process};
use rustix::time::{ClockId, clock_gettime};

use super::programs::{Library, Programs};

/// A worker that ends with this was fenced by its next instance, ...
const FENCED: i32 = 3;
/// ... and with this it met an error that only a new instance can answer.
const BROKEN: i32 = 4;
/// Starts after errors that a run may need.
const MOST_RESTARTS: usize = 60;
/// How long one condition is waited for.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// How often it is looked at.
pub const GLANCE: Duration = Duration::from_millis(20);

/// What a client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Consumes, transforms and produces.
    Transform(Library),
    /// Random sends and polls.
    Mix(Library),
    /// The Streams application.
    Streams,
}

/// A client through all its instances.
struct Client {
    role: Role,
    /// What its instances share: the transactional id, the group's instance id.
    id: String,
    running: Instance,
}

struct Instance {
    process: u32,
    child: Child,
}

/// What all clients are told.
pub struct Setting<'a> {
    /// Their programs.
    pub programs: &'a Programs,
    /// Where they connect.
    pub bootstrap: String,
    /// What the names of topics and groups begin with.
    pub prefix: String,
    /// The group protocol of those that know both.
    pub protocol: &'static str,
    /// Where they write.
    pub folder: PathBuf,
    /// What their own random choices come from.
    pub seed: u64,
}

/// All clients of a run. Dropped, they are killed.
pub struct Clients<'a> {
    setting: Setting<'a>,
    clients: Vec<Client>,
    next_process: u32,
    crashes: Vec<Timed>,
    /// How often a client was started again after an error of its own.
    pub restarts: usize,
}

/// The time that histories are written with.
fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    // Since the machine started: positive, and under 64 bits for centuries.
    let (seconds, nanoseconds) = (time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs());
    seconds * 1_000_000_000 + nanoseconds
}

impl<'a> Clients<'a> {
    /// No client runs yet.
    pub fn new(setting: Setting<'a>) -> Self {
        Self {
            setting,
            clients: Vec::new(),
            next_process: 1,
            crashes: Vec::new(),
            restarts: 0,
        }
    }

    /// What the clients are told.
    pub fn setting(&self) -> &Setting<'a> {
        &self.setting
    }

    /// Starts a client that may be killed.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn add(&mut self, role: Role, id: &str) -> Result<()> {
        let running = self.start(role, id)?;
        self.clients.push(Client {
            role,
            id: id.to_owned(),
            running,
        });
        Ok(())
    }

    /// The places of those that a filter takes.
    pub fn places(&self, wanted: impl Fn(Role) -> bool) -> Vec<usize> {
        let all = self.clients.iter().enumerate();
        all.filter(|(_, c)| wanted(c.role))
            .map(|(i, _)| i)
            .collect()
    }

    /// The number for a process that writes a history, and the file.
    pub fn number(&mut self) -> (u32, PathBuf) {
        let process = self.next_process;
        self.next_process += 1;
        (process, self.file(process))
    }

    fn file(&self, process: u32) -> PathBuf {
        self.setting.folder.join(format!("{process}.jsonl"))
    }

    fn start(&mut self, role: Role, id: &str) -> Result<Instance> {
        let (process, history) = self.number();
        let setting = &self.setting;
        let (mut command, name) = match role {
            Role::Transform(library) => (
                setting.programs.worker(library, "transform"),
                library.name(),
            ),
            Role::Mix(library) => (setting.programs.worker(library, "mix"), library.name()),
            Role::Streams => (setting.programs.java("streams"), "streams"),
        };
        let seed = setting.seed.rotate_left(process) >> 1;
        let kept = match role {
            // Its state outlives the instance.
            Role::Streams => setting.folder.join(format!("state-{id}")),
            Role::Transform(_) | Role::Mix(_) => history,
        };
        command
            .args([&setting.bootstrap, &setting.prefix, id])
            .args([process.to_string(), seed.to_string()])
            .arg(kept)
            .arg(setting.protocol);
        let log = setting.folder.join(format!("{process}-{name}-{id}.err"));
        let child = spawn(&mut command, &log)?;
        Ok(Instance { process, child })
    }

    /// Starts those again that ended after an error; fails when one ended in another way.
    ///
    /// # Errors
    /// With the client's name and status.
    pub fn attend(&mut self) -> Result<()> {
        for place in 0..self.clients.len() {
            if let Some(status) = self.clients[place].running.child.try_wait()? {
                let client = &self.clients[place];
                let name = format!(
                    "process {} ({:?} {})",
                    client.running.process, client.role, client.id
                );
                ensure!(
                    matches!(status.code(), Some(FENCED | BROKEN)),
                    "{name} ended by itself ({status}), see {}",
                    self.setting.folder.display()
                );
                self.restarts += 1;
                ensure!(
                    self.restarts < MOST_RESTARTS,
                    "{name} was fenced or broken once too often"
                );
                self.next_instance(place)?;
            }
        }
        Ok(())
    }

    /// The instance that was has ended, or will be no more than a zombie: the next one takes over.
    fn next_instance(&mut self, place: usize) -> Result<Instance> {
        let (role, id) = (self.clients[place].role, self.clients[place].id.clone());
        let mut next = self.start(role, &id)?;
        std::mem::swap(&mut self.clients[place].running, &mut next);
        if role != Role::Streams && next.child.try_wait()?.is_some() {
            self.crashes.push(crash(now(), next.process));
        }
        Ok(next)
    }

    /// SIGKILL for a client, and its next instance.
    ///
    /// # Errors
    /// When that cannot be started.
    pub fn kill(&mut self, place: usize) -> Result<()> {
        let running = &mut self.clients[place].running;
        running.child.kill()?;
        running.child.wait()?;
        self.next_instance(place)?;
        Ok(())
    }

    /// Stops a client, lets its next instance take over and commit, and lets the first one go on: it must learn
    /// that it is fenced. `meanwhile` is called while that is waited for.
    ///
    /// # Errors
    /// When it does not, or the next instance commits nothing.
    pub fn make_zombie(
        &mut self,
        place: usize,
        mut meanwhile: impl FnMut() -> Result<()>,
    ) -> Result<()> {
        // One that has not taken its id yet would take it from the next instance when it goes on.
        self.wait_for_commit(place, &mut meanwhile)?;
        signal(&self.clients[place].running.child, Signal::STOP)?;
        let mut zombie = self.next_instance(place)?;
        let woken = self.wait_for_commit(place, &mut meanwhile);
        signal(&zombie.child, Signal::CONT)?;
        let ended = woken.and_then(|()| {
            until("a zombie to be fenced", || {
                meanwhile()?;
                Ok(zombie.child.try_wait()?)
            })
        });
        if ended.is_err() {
            zombie.child.kill()?;
            zombie.child.wait()?;
        }
        let status = ended.with_context(|| format!("process {}", zombie.process))?;
        // librdkafka may hang instead of being told; the worker ends itself then. That it has committed nothing
        // is for the history to show.
        ensure!(
            matches!(status.code(), Some(FENCED | BROKEN)),
            "process {} came back too late and was not fenced ({status})",
            zombie.process
        );
        self.crashes.push(crash(now(), zombie.process));
        Ok(())
    }

    fn wait_for_commit(
        &mut self,
        place: usize,
        meanwhile: &mut impl FnMut() -> Result<()>,
    ) -> Result<()> {
        until("an instance to commit", || {
            meanwhile()?;
            self.attend()?;
            Ok(self.has_committed(place)?.then_some(()))
        })
    }

    /// Whether the running instance of a client has committed a transaction.
    ///
    /// # Errors
    /// When its history cannot be read.
    pub fn has_committed(&self, place: usize) -> Result<bool> {
        let file = self.file(self.clients[place].running.process);
        if !file.exists() {
            return Ok(false);
        }
        let text = fs::read_to_string(file)?;
        let is_commit = |line: &str| line.contains("\"commit\"") && line.contains("\"ok\"");
        Ok(text.lines().any(is_commit))
    }

    /// Asks all clients to end, and waits until they have.
    ///
    /// # Errors
    /// When one does not, or not in order.
    pub fn stop(&mut self) -> Result<()> {
        for client in &self.clients {
            signal(&client.running.child, Signal::TERM)?;
        }
        for mut client in self.clients.drain(..) {
            let name = format!("process {} ({:?})", client.running.process, client.role);
            let status = ended(&mut client.running.child, &name)?;
            // A virtual machine that ends by a signal says so, in order as it is; one that has hardly begun just
            // ends by it; and an error may still come last.
            let asked = status.signal() == Some(Signal::TERM.as_raw());
            let code = status.code();
            if asked || matches!(code, Some(FENCED | BROKEN)) {
                self.crashes.push(crash(now(), client.running.process));
            } else {
                ensure!(
                    matches!(code, Some(0 | 143)),
                    "{name} failed at its end ({status})"
                );
            }
        }
        Ok(())
    }

    /// Everything that all processes wrote down.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn histories(&self) -> Result<Vec<Timed>> {
        let mut all = self.crashes.clone();
        for process in 1..self.next_process {
            let file = self.file(process);
            if file.exists() {
                let read = read_timed(std::io::BufReader::new(File::open(&file)?));
                all.extend(read.with_context(|| file.display().to_string())?);
            }
        }
        Ok(all)
    }
}

impl Drop for Clients<'_> {
    fn drop(&mut self) {
        for client in &mut self.clients {
            // Already ended, or to be ended now.
            let _ = client.running.child.kill();
            let _ = client.running.child.wait();
        }
    }
}

/// Starts a process whose errors go to a file.
///
/// # Errors
/// When it cannot be started.
pub fn spawn(command: &mut Command, log: &Path) -> Result<Child> {
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command.stderr(File::create(log)?);
    let name = command.get_program().to_owned();
    command
        .spawn()
        .with_context(|| format!("cannot start {}", name.display()))
}

/// Sends a signal to a child.
///
/// # Errors
/// The operating system's error.
pub fn signal(child: &Child, signal: Signal) -> Result<()> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    Ok(kill_process(pid.context("a process id")?, signal)?)
}

/// Waits for the end of a child.
///
/// # Errors
/// When it does not end; it is killed then.
pub fn ended(child: &mut Child, name: &str) -> Result<ExitStatus> {
    let status = until(name, || Ok(child.try_wait()?));
    if status.is_err() {
        child.kill()?;
        child.wait()?;
    }
    status
}

/// Waits until there is a value.
///
/// # Errors
/// When there is none for [`PATIENCE`].
pub fn until<T>(what: &str, mut value: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let begun = Instant::now();
    loop {
        if let Some(value) = value()? {
            return Ok(value);
        }
        if begun.elapsed() > PATIENCE {
            bail!("waited {PATIENCE:?} for {what}");
        }
        thread::sleep(GLANCE);
    }
}
