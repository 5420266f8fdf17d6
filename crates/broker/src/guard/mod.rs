//! The disk guard: looks at the room on the disk, and stands between producers and the last of it.
//!
//! [`policy`] decides; this asks the file system, tells the logs, holds the reserve file, and says in logs and
//! metrics how things are. Producers pass [`DiskGuard::admit`] before each append. What makes room (deleting
//! topics and records, retention) and what the server itself writes (metadata, offsets, transactions) does not:
//! for that the reserve is there.
//!
//! Invariants: while there is much room a producer costs one atomic subtraction; the file system is asked again
//! before an eighth of the room is written; without an answer of the file system nothing is refused.

pub mod policy;

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use dlog_metadata::MetadataImage;
use dlog_metadata::configs::{self, StaticConfigs};
use dlog_storage::disk::{Disk, OpenMode, Space};
use parking_lot::Mutex;

use crate::partitions::UpkeepWork;
use crate::state::BrokerState;
use policy::{Admission, ReserveFile};
pub use policy::{Level, Limits, Refused};

/// Name of the reserve file in the data folder.
pub const RESERVE_FILE: &str = ".reserve";

/// The file system is asked again before this part of the room is written.
const LOOK_AGAIN_PART: u64 = 8;

/// The guard of one data folder.
#[derive(Debug, Default)]
pub struct DiskGuard {
    admission: Mutex<Admission>,
    /// Bytes that may be appended before the file system is asked again; none when producers are slowed down.
    allowance: AtomicI64,
    level: AtomicU8,
    /// The file system said nothing the last time: that was told once.
    blind: AtomicBool,
    /// The logs were told to save space.
    saving: AtomicBool,
    refused_batches: AtomicU64,
    throttled_ms: AtomicU64,
}

/// What the metrics show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figures {
    /// How full the disk is.
    pub level: Level,
    /// Batches refused since the start.
    pub refused_batches: u64,
    /// Time that producers were told to wait since the start, in ms.
    pub throttled_ms: u64,
}

impl DiskGuard {
    /// The level since the last look.
    pub fn level(&self) -> Level {
        match self.level.load(Ordering::Relaxed) {
            0 => Level::Normal,
            1 => Level::Alert,
            2 => Level::Throttle,
            _ => Level::Refuse,
        }
    }

    /// For the metrics.
    pub fn figures(&self) -> Figures {
        Figures {
            level: self.level(),
            refused_batches: self.refused_batches.load(Ordering::Relaxed),
            throttled_ms: self.throttled_ms.load(Ordering::Relaxed),
        }
    }

    /// Asks for the append of a producer's batch; how long the producer has to wait with the next one.
    ///
    /// # Errors
    /// [`Refused`] when the disk is too full.
    pub fn admit(&self, state: &BrokerState, bytes: usize) -> Result<Duration, Refused> {
        let wanted = i64::try_from(bytes).unwrap_or(i64::MAX);
        if self.allowance.load(Ordering::Relaxed) >= wanted
            && self.allowance.fetch_sub(wanted, Ordering::Relaxed) >= wanted
        {
            return Ok(Duration::ZERO);
        }
        self.admit_slowly(state, bytes as u64)
    }

    fn admit_slowly(&self, state: &BrokerState, bytes: u64) -> Result<Duration, Refused> {
        let Some(space) = self.ask(&*state.env.disk, &state.config.data_dir) else {
            return Ok(Duration::ZERO);
        };
        let mut admission = self.admission.lock();
        let before = admission.level();
        if self.take_in(&mut admission, space) {
            let rose = admission.level() > before;
            // The rest of it, which may wait for the disk, is for another thread; one that is gone is not
            // needed any more.
            drop(state.upkeep.send(UpkeepWork::LookAtDisk { rose }));
        }
        match admission.admit(state.now_ms(), bytes) {
            Ok(wait_ms) => {
                let wait_ms = u64::try_from(wait_ms).unwrap_or(0);
                self.throttled_ms.fetch_add(wait_ms, Ordering::Relaxed);
                Ok(Duration::from_millis(wait_ms))
            }
            Err(refused) => {
                self.refused_batches.fetch_add(1, Ordering::Relaxed);
                Err(refused)
            }
        }
    }

    /// Looks at the disk and does what follows from it: settings are read again, the reserve file is held or
    /// released, the logs save space or not. True when the level rose. May wait for the disk.
    pub fn tend(&self, state: &BrokerState) -> bool {
        let disk = &*state.env.disk;
        let dir = &state.config.data_dir;
        let limits = limits(&state.image(), state.node_id(), &state.statics);
        let before = self.level();
        self.admission.lock().set_limits(limits);
        let Some(mut space) = self.ask(disk, dir) else {
            return false;
        };
        if tend_reserve_file(disk, dir, space, &limits) {
            space = self.ask(disk, dir).unwrap_or(space);
        }
        self.take_in(&mut self.admission.lock(), space);
        let level = self.level();
        self.tell_logs(state, level);
        level > before
    }

    /// What the file system says; `None`, with a warning, when it says nothing.
    fn ask(&self, disk: &dyn Disk, dir: &Path) -> Option<Space> {
        match disk.space(dir) {
            Ok(space) => {
                self.blind.store(false, Ordering::Relaxed);
                Some(space)
            }
            Err(error) => {
                if !self.blind.swap(true, Ordering::Relaxed) {
                    tracing::warn!(dir = %dir.display(), %error, "the file system does not tell its room: nothing is refused before it is full");
                }
                self.allowance.store(i64::MAX, Ordering::Relaxed);
                self.level.store(Level::Normal as u8, Ordering::Relaxed);
                None
            }
        }
    }

    /// True when the level changed.
    fn take_in(&self, admission: &mut Admission, space: Space) -> bool {
        let before = admission.level();
        let changed = admission.look(space);
        let level = admission.level();
        let allowance = match level {
            Level::Normal | Level::Alert => admission.room_bytes() / LOOK_AGAIN_PART,
            Level::Throttle | Level::Refuse => 0,
        };
        let allowance = i64::try_from(allowance).unwrap_or(i64::MAX);
        self.allowance.store(allowance, Ordering::Relaxed);
        self.level.store(level as u8, Ordering::Relaxed);
        if changed {
            say(before, level, space, &admission.limits());
        }
        changed
    }

    /// Zeros ahead of appends are for disks with room.
    fn tell_logs(&self, state: &BrokerState, level: Level) {
        let save = level >= Level::Throttle;
        let saved = self.saving.swap(save, Ordering::Relaxed);
        // While it is full again and again: logs may have been opened meanwhile.
        if !save && !saved {
            return;
        }
        for topic in state.partitions.topics() {
            for partition in &topic.partitions {
                if let Ok(log) = partition.log() {
                    log.save_space(save);
                }
            }
        }
    }
}

fn say(before: Level, level: Level, space: Space, limits: &Limits) {
    let used_percent = policy::used_percent(space);
    let free_bytes = space.free_bytes;
    let reserve_bytes = limits.reserve(space.total_bytes);
    if level > before {
        let meaning = match level {
            Level::Normal | Level::Alert => "the disk fills up: free space or lower retention",
            Level::Throttle => "the disk is nearly full: producers are slowed down",
            Level::Refuse => {
                "the disk is full but for the reserve: producers are refused until there is room"
            }
        };
        tracing::warn!(
            level = level.name(),
            used_percent,
            free_bytes,
            reserve_bytes,
            "{meaning}"
        );
    } else {
        tracing::info!(
            level = level.name(),
            used_percent,
            free_bytes,
            reserve_bytes,
            "the disk has more room"
        );
    }
}

/// One of the settings, all of which are numbers.
fn number(
    image: &MetadataImage,
    node_id: i32,
    statics: &StaticConfigs,
    name: &str,
    default: u64,
) -> u64 {
    let def = configs::broker::find(name);
    let resolved = def.map(|def| configs::resolve_broker(def, image, Some(node_id), statics));
    let value = resolved.as_ref().and_then(configs::Resolved::value);
    value
        .and_then(|value| value.trim().parse().ok())
        .unwrap_or(default)
}

/// How often the guard looks by itself.
pub fn check_interval(state: &BrokerState) -> Duration {
    let name = "dlog.disk.check.interval.ms";
    let (image, statics) = (state.image(), &state.statics);
    Duration::from_millis(number(&image, state.node_id(), statics, name, 1000).max(1))
}

/// The settings that hold.
pub fn limits(image: &MetadataImage, node_id: i32, statics: &StaticConfigs) -> Limits {
    let defaults = Limits::default();
    let number = |name: &str, default: u64| number(image, node_id, statics, name, default);
    Limits {
        alert_percent: number("dlog.disk.alert.percent", defaults.alert_percent),
        throttle_percent: number("dlog.disk.throttle.percent", defaults.throttle_percent),
        reserve_bytes: number("dlog.disk.reserve.bytes", defaults.reserve_bytes),
        drain_ms: number("dlog.disk.drain.ms", defaults.drain_ms),
    }
}

/// Before anything is opened: what a full disk lacks for it is taken from the reserve file.
pub fn make_room_to_open(disk: &dyn Disk, dir: &Path, statics: &StaticConfigs) {
    let limits = limits(&MetadataImage::default(), -1, statics);
    if let Ok(space) = disk.space(dir) {
        let needed = limits.file_bytes(space.total_bytes);
        if space.free_bytes < needed {
            release(disk, &dir.join(RESERVE_FILE));
        }
    }
}

/// Holds or releases the reserve file; true when something changed.
fn tend_reserve_file(disk: &dyn Disk, dir: &Path, space: Space, limits: &Limits) -> bool {
    let path = dir.join(RESERVE_FILE);
    let wanted = limits.file_bytes(space.total_bytes);
    let held = disk
        .open(&path, OpenMode::Read)
        .and_then(|file| file.len())
        .ok();
    match policy::reserve_file(space, limits) {
        ReserveFile::Release if held.is_some() => release(disk, &path),
        ReserveFile::Hold if wanted == 0 && held.is_some() => release(disk, &path),
        ReserveFile::Hold if wanted > 0 && held != Some(wanted) => hold(disk, &path, wanted),
        ReserveFile::Hold | ReserveFile::Release | ReserveFile::Keep => false,
    }
}

fn hold(disk: &dyn Disk, path: &Path, bytes: u64) -> bool {
    let held = disk
        .open(path, OpenMode::Create)
        .and_then(|file| file.allocate(bytes));
    match held {
        Ok(()) => {
            tracing::debug!(path = %path.display(), bytes, "reserve held");
            true
        }
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "the reserve is not held: it is tried again");
            // Part of a reserve helps as little as none, and takes room.
            release(disk, path);
            false
        }
    }
}

fn release(disk: &dyn Disk, path: &Path) -> bool {
    match disk.remove_file(path) {
        Ok(()) => {
            tracing::warn!(path = %path.display(), "the reserve is released: the disk is full");
            true
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "the reserve cannot be released");
            false
        }
    }
}
