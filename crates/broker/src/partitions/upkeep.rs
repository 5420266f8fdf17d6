//! What happens in the background: looking at the disk, retention, forgetting idle producers, removing
//! deleted topics.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use dlog_storage::disk::Disk;
use uuid::Uuid;

use super::open::reopen_starved;
use crate::guard::{self, Level};
use crate::state::BrokerState;

/// Ending of the name of a folder whose topic was deleted.
const DELETED: &str = "-delete";

/// How often retention runs, and compaction is asked to, while the disk is nearly full.
const PRESSURE: Duration = Duration::from_secs(10);

/// A folder that was renamed and waits to be removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeletedFolder(pub PathBuf);

/// Renames the folder of a deleted partition, so that a topic of the same name can be created at once.
///
/// # Errors
/// The operating system's error.
pub fn retire_folder(disk: &dyn Disk, dir: &Path) -> std::io::Result<DeletedFolder> {
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    // Kafka shortens the name so that the whole fits a file name; so does this.
    let kept: String = name.chars().take(200).collect();
    let retired = dir.with_file_name(format!("{kept}.{}{DELETED}", Uuid::new_v4().simple()));
    disk.rename(dir, &retired)?;
    if let Some(parent) = dir.parent() {
        disk.sync_dir(parent)?;
    }
    Ok(DeletedFolder(retired))
}

/// Folders of topics that were deleted before a restart.
pub(crate) fn leftovers(disk: &dyn Disk, data_dir: &Path) -> Vec<DeletedFolder> {
    let entries = disk.list(data_dir).unwrap_or_default();
    let deleted = entries
        .into_iter()
        .filter(|entry| entry.is_dir && entry.name.ends_with(DELETED));
    deleted
        .map(|entry| DeletedFolder(data_dir.join(entry.name)))
        .collect()
}

/// What the background thread is asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpkeepWork {
    /// Remove a folder.
    Remove(DeletedFolder),
    /// Look at the room on the disk at once.
    LookAtDisk {
        /// Because there is less of it.
        rose: bool,
    },
    /// End.
    Stop,
}

/// The background thread. It ends with [`Upkeep::stop`], or when the server is gone.
#[derive(Debug)]
pub struct Upkeep {
    work: mpsc::Sender<UpkeepWork>,
    thread: Option<JoinHandle<()>>,
}

impl Upkeep {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub fn start(
        state: &Arc<BrokerState>,
        folders: mpsc::Receiver<UpkeepWork>,
        work: mpsc::Sender<UpkeepWork>,
    ) -> std::io::Result<Self> {
        let every = Duration::from_millis(state.config.retention_check_interval_ms.max(1));
        let state = Arc::downgrade(state);
        let thread = std::thread::Builder::new()
            .name("dlog-upkeep".to_owned())
            .spawn(move || run(&state, &folders, every))?;
        Ok(Self {
            work,
            thread: Some(thread),
        })
    }

    /// Ends the thread after what it is doing.
    pub fn stop(mut self) {
        // A thread that is gone needs no telling.
        drop(self.work.send(UpkeepWork::Stop));
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the upkeep thread had panicked");
        }
    }
}

/// What is done every so often, and when it is due.
struct Timetable {
    retention: Instant,
    look: Instant,
    /// Retention that does not wait for its time, because the disk is nearly full.
    pressure: Instant,
}

fn run(state: &Weak<BrokerState>, folders: &mpsc::Receiver<UpkeepWork>, every: Duration) {
    let now = Instant::now();
    let mut due = Timetable {
        retention: now + every,
        look: now,
        pressure: now,
    };
    loop {
        let next = due.retention.min(due.look);
        let received = folders.recv_timeout(next.saturating_duration_since(Instant::now()));
        let Some(state) = state.upgrade() else { return };
        if state.stopping.is_cancelled() {
            return;
        }
        match received {
            Ok(UpkeepWork::Remove(folder)) => remove(&state, &folder),
            Ok(UpkeepWork::Stop) => return,
            Ok(UpkeepWork::LookAtDisk { rose }) => look(&state, &mut due, rose),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        // Also between other work, of which there may be much.
        if due.look <= Instant::now() {
            look(&state, &mut due, false);
            due.look = Instant::now() + guard::check_interval(&state);
        }
        if due.retention <= Instant::now() {
            apply_retention(&state);
            due.retention = Instant::now() + every;
        }
    }
}

/// Looks at the disk. Where it becomes full, what retention may delete and compaction may drop goes at once,
/// and again while it stays nearly full.
fn look(state: &BrokerState, due: &mut Timetable, rose: bool) {
    let rose = state.guard.tend(state) || rose;
    let pressed = state.guard.level() >= Level::Throttle && due.pressure <= Instant::now();
    if rose || pressed {
        apply_retention(state);
        state.compaction.hurry();
        due.pressure = Instant::now() + PRESSURE;
        // There may be room now.
        state.guard.tend(state);
    }
    if state.guard.level() < Level::Refuse {
        reopen_starved(state);
    }
}

fn remove(state: &BrokerState, folder: &DeletedFolder) {
    match state.env.disk.remove_dir_all(&folder.0) {
        Ok(()) => tracing::debug!(folder = %folder.0.display(), "deleted partition removed"),
        Err(error) => {
            tracing::warn!(folder = %folder.0.display(), %error, "a deleted partition stays on the disk until the next start");
        }
    }
}

fn apply_retention(state: &BrokerState) {
    let now_ms = state.now_ms();
    for topic in state.partitions.topics() {
        for partition in &topic.partitions {
            if state.stopping.is_cancelled() {
                return;
            }
            let Ok(log) = partition.log() else { continue };
            log.expire_producers(now_ms - state.config.producer_id_expiration_ms);
            match log.apply_retention(now_ms) {
                Ok(report) if report.segments > 0 => {
                    tracing::info!(topic = %topic.name, partition = partition.index, segments = report.segments, bytes = report.bytes, "old segments deleted");
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(topic = %topic.name, partition = partition.index, %error, "retention failed");
                }
            }
        }
    }
}
