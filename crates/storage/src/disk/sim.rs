//! A file system in memory that forgets, on power loss, what was not synced.
//!
//! Model: a write changes 512-byte sectors in the cache; `sync_data` makes a file's sectors and size
//! durable; `sync_dir` makes a folder's names durable. On [`SimDisk::power_loss`] any subset of the
//! unsynced sectors, any of the sizes a file had or could have on the way, and any subset of the
//! unsynced name changes (a rename whole or not at all) survive, drawn from a seed. Faults that are
//! not power loss (a failing sync, a full disk, power that goes at the n-th change) are set with
//! [`SimDisk::set_fault`].

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::{DirEntry, DirLock, Disk, DiskFile, Mapping, OpenMode};

const SECTOR: usize = 512;

/// What goes wrong, besides power loss.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SimFault {
    /// After this many changes (writes, syncs, name changes) every call fails: the power is gone.
    pub power_fails_after: Option<u64>,
    /// Every sync from the n-th on fails with an I/O error.
    pub sync_fails_after: Option<u64>,
    /// The n-th sync of a file (from 0) fails, and as under Linux the kernel then takes what it
    /// could not write for clean: later syncs succeed without it ("fsyncgate").
    pub sync_loses_at: Option<u64>,
    /// Bytes that all files together may have; beyond it writes fail with "no space",
    /// after as many of their bytes as fit.
    pub capacity_bytes: Option<u64>,
}

/// A simulated disk. Clones share the same content.
#[derive(Clone, Debug, Default)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    inodes: BTreeMap<u64, Inode>,
    next_inode: u64,
    dirs: BTreeSet<PathBuf>,
    /// Names as processes see them.
    names: BTreeMap<PathBuf, u64>,
    /// Names that would survive power loss.
    durable_names: BTreeMap<PathBuf, u64>,
    /// Changes of names since their folder was synced, oldest first.
    pending: Vec<NameChange>,
    locks: BTreeSet<PathBuf>,
    fault: SimFault,
    changes: u64,
    syncs: u64,
    file_syncs: u64,
    before_read: Option<ReadHook>,
}

/// What a test has happen in the middle of another thread's work.
struct ReadHook(Box<dyn FnOnce() + Send>);

impl std::fmt::Debug for ReadHook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ReadHook")
    }
}

#[derive(Clone, Debug)]
enum NameChange {
    Link(PathBuf, u64),
    Unlink(PathBuf),
    Rename(PathBuf, PathBuf, u64),
}

impl NameChange {
    fn dir(&self) -> Option<&Path> {
        match self {
            Self::Link(path, _) | Self::Unlink(path) | Self::Rename(path, _, _) => path.parent(),
        }
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, u64>) {
        match self {
            Self::Link(path, inode) => {
                names.insert(path.clone(), *inode);
            }
            Self::Unlink(path) => {
                names.remove(path);
            }
            Self::Rename(from, to, inode) => {
                names.remove(from);
                names.insert(to.clone(), *inode);
            }
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Inode {
    cached: Vec<u8>,
    durable: Vec<u8>,
    dirty: BTreeSet<usize>,
    /// Sectors that a failed sync forgot: in the cache, not on the disk, and no longer dirty.
    lost: BTreeSet<usize>,
    /// Sizes the file had since the last sync.
    lengths: Vec<usize>,
}

impl Inode {
    fn write(&mut self, position: usize, bytes: &[u8]) {
        let end = position + bytes.len();
        if end > self.cached.len() {
            self.cached.resize(end, 0);
            self.lengths.push(end);
        }
        self.cached[position..end].copy_from_slice(bytes);
        self.touch(position / SECTOR..end.div_ceil(SECTOR));
    }

    fn touch(&mut self, sectors: std::ops::Range<usize>) {
        self.lost.retain(|sector| !sectors.contains(sector));
        self.dirty.extend(sectors);
    }

    fn set_len(&mut self, len: usize) {
        let old = self.cached.len();
        self.cached.resize(len, 0);
        self.lengths.push(len);
        // What was cut reads as zeros if the file grows again.
        self.touch(len.min(old) / SECTOR..len.max(old).div_ceil(SECTOR));
    }

    fn sync(&mut self) {
        let old = std::mem::take(&mut self.durable);
        self.durable.clone_from(&self.cached);
        for sector in &self.lost {
            for i in sector * SECTOR..((sector + 1) * SECTOR).min(self.durable.len()) {
                self.durable[i] = old.get(i).copied().unwrap_or(0);
            }
        }
        self.dirty.clear();
        self.lengths.clear();
    }

    /// A sync that fails.
    fn lose(&mut self) {
        self.lost.append(&mut self.dirty);
    }

    /// What a power loss leaves of the file.
    fn after_power_loss(&self, random: &mut Random) -> Vec<u8> {
        let mut sizes = vec![self.durable.len()];
        sizes.extend(&self.lengths);
        let mut len = sizes[random.below(sizes.len())];
        // A growing file may also stop at any sector in between.
        if len > self.durable.len() && random.below(3) == 0 {
            len = self.durable.len() + random.below(len - self.durable.len() + 1);
        }
        let mut bytes = self.durable.clone();
        bytes.resize(len, 0);
        for sector in &self.dirty {
            let start = sector * SECTOR;
            let end = (start + SECTOR).min(len).min(self.cached.len());
            if start < end && random.below(2) == 0 {
                bytes[start..end].copy_from_slice(&self.cached[start..end]);
            }
        }
        bytes
    }
}

/// SplitMix64: enough randomness for drawing subsets, and the same on every machine.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound.max(1) as u64) as usize
    }
}

impl SimDisk {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets what goes wrong from now on; counters start anew.
    pub fn set_fault(&self, fault: SimFault) {
        let mut state = self.state.lock();
        state.fault = fault;
        state.changes = 0;
        state.syncs = 0;
        state.file_syncs = 0;
    }

    /// Runs `hook` just before the next read of a file: a race that happens every time.
    pub fn before_next_read(&self, hook: impl FnOnce() + Send + 'static) {
        self.state.lock().before_read = Some(ReadHook(Box::new(hook)));
    }

    /// Changes made since the fault was set.
    pub fn changes(&self) -> u64 {
        self.state.lock().changes
    }

    /// The disk that the next boot finds, drawn by `seed` from what may have survived.
    pub fn power_loss(&self, seed: u64) -> Self {
        let state = self.state.lock();
        let mut random = Random(seed);
        let mut names = state.durable_names.clone();
        for change in &state.pending {
            if random.below(2) == 0 {
                change.apply(&mut names);
            }
        }
        let mut inodes = BTreeMap::new();
        for inode in names.values() {
            let Some(file) = state.inodes.get(inode) else {
                continue;
            };
            let bytes = file.after_power_loss(&mut random);
            inodes.insert(
                *inode,
                Inode {
                    cached: bytes.clone(),
                    durable: bytes,
                    ..Inode::default()
                },
            );
        }
        names.retain(|_, inode| inodes.contains_key(inode));
        let fresh = State {
            inodes,
            next_inode: state.next_inode,
            dirs: state.dirs.clone(),
            durable_names: names.clone(),
            names,
            ..State::default()
        };
        Self {
            state: Arc::new(Mutex::new(fresh)),
        }
    }

    /// The disk as a killed process leaves it: the cache survives, the process's locks do not.
    pub fn process_kill(&self) -> Self {
        let state = self.state.lock();
        let copy = State {
            inodes: state.inodes.clone(),
            next_inode: state.next_inode,
            dirs: state.dirs.clone(),
            names: state.names.clone(),
            durable_names: state.durable_names.clone(),
            pending: state.pending.clone(),
            ..State::default()
        };
        Self {
            state: Arc::new(Mutex::new(copy)),
        }
    }

    /// Content of a file, for tests that damage it.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn content(&self, path: &Path) -> io::Result<Vec<u8>> {
        let state = self.state.lock();
        let inode = state.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(state.inodes[inode].cached.clone())
    }

    /// Replaces the content of a file durably, for tests that damage it.
    pub fn set_content(&self, path: &Path, bytes: Vec<u8>) {
        let mut state = self.state.lock();
        let inode = match state.names.get(path) {
            Some(inode) => *inode,
            None => state.create(path),
        };
        state.durable_names.insert(path.to_path_buf(), inode);
        let file = Inode {
            cached: bytes.clone(),
            durable: bytes,
            ..Inode::default()
        };
        state.inodes.insert(inode, file);
    }
}

impl State {
    fn power(&self) -> io::Result<()> {
        match self.fault.power_fails_after {
            Some(n) if self.changes >= n => Err(io::Error::other("the power is gone")),
            _ => Ok(()),
        }
    }

    fn change(&mut self) -> io::Result<()> {
        self.power()?;
        self.changes += 1;
        Ok(())
    }

    fn sync_fault(&mut self) -> io::Result<()> {
        self.change()?;
        self.syncs += 1;
        match self.fault.sync_fails_after {
            Some(n) if self.syncs > n => Err(io::Error::other("simulated I/O error on sync")),
            _ => Ok(()),
        }
    }

    fn space_for(&self, more: u64) -> io::Result<()> {
        if more > self.room() {
            Err(io::ErrorKind::StorageFull.into())
        } else {
            Ok(())
        }
    }

    /// Bytes that files may still grow by.
    fn room(&self) -> u64 {
        let Some(capacity) = self.fault.capacity_bytes else {
            return u64::MAX / 2;
        };
        let used: u64 = self
            .names
            .values()
            .map(|inode| self.inodes[inode].cached.len() as u64)
            .sum();
        capacity.saturating_sub(used)
    }

    fn create(&mut self, path: &Path) -> u64 {
        let inode = self.next_inode;
        self.next_inode += 1;
        self.inodes.insert(inode, Inode::default());
        self.names.insert(path.to_path_buf(), inode);
        self.pending
            .push(NameChange::Link(path.to_path_buf(), inode));
        inode
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state.lock();
        state.power()?;
        let inode = match (state.names.get(path).copied(), mode) {
            (Some(inode), OpenMode::Read | OpenMode::ReadWrite) => inode,
            (None, OpenMode::Read | OpenMode::ReadWrite) => {
                return Err(io::ErrorKind::NotFound.into());
            }
            (Some(inode), OpenMode::Create) => {
                state.change()?;
                state.inodes.entry(inode).or_default().set_len(0);
                inode
            }
            (None, OpenMode::Create) => {
                state.change()?;
                state.create(path)
            }
        };
        Ok(Arc::new(SimFile {
            disk: self.clone(),
            inode,
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.change()?;
        let inode = state.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.names.insert(to.to_path_buf(), inode);
        state.pending.push(NameChange::Rename(
            from.to_path_buf(),
            to.to_path_buf(),
            inode,
        ));
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.change()?;
        state.names.remove(path).ok_or(io::ErrorKind::NotFound)?;
        state.pending.push(NameChange::Unlink(path.to_path_buf()));
        Ok(())
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.power()?;
        for ancestor in path.ancestors() {
            state.dirs.insert(ancestor.to_path_buf());
        }
        Ok(())
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.change()?;
        state.dirs.retain(|dir| !dir.starts_with(path));
        let gone: Vec<_> = state
            .names
            .keys()
            .filter(|name| name.starts_with(path))
            .cloned()
            .collect();
        for name in gone {
            state.names.remove(&name);
            state.pending.push(NameChange::Unlink(name));
        }
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let state = self.state.lock();
        state.power()?;
        let name = |path: &Path| {
            path.file_name()
                .map(|name| name.to_string_lossy().into_owned())
        };
        let files = state
            .names
            .iter()
            .filter(|(path, _)| path.parent() == Some(dir))
            .filter_map(|(path, inode)| {
                let len = state.inodes.get(inode)?.cached.len() as u64;
                Some(DirEntry {
                    name: name(path)?,
                    len,
                    is_dir: false,
                })
            });
        let dirs = state
            .dirs
            .iter()
            .filter(|path| path.parent() == Some(dir))
            .filter_map(|path| {
                Some(DirEntry {
                    name: name(path)?,
                    len: 0,
                    is_dir: true,
                })
            });
        let mut entries: Vec<_> = files.chain(dirs).collect();
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.sync_fault()?;
        let pending = std::mem::take(&mut state.pending);
        let (synced, kept): (Vec<_>, Vec<_>) = pending
            .into_iter()
            .partition(|change| change.dir() == Some(dir));
        for change in &synced {
            change.apply(&mut state.durable_names);
        }
        state.pending = kept;
        Ok(())
    }

    fn try_lock(&self, path: &Path) -> io::Result<Option<Box<dyn DirLock>>> {
        let mut state = self.state.lock();
        if !state.locks.insert(path.to_path_buf()) {
            return Ok(None);
        }
        Ok(Some(Box::new(SimLock {
            disk: self.clone(),
            path: path.to_path_buf(),
        })))
    }
}

#[derive(Debug)]
struct SimLock {
    disk: SimDisk,
    path: PathBuf,
}

impl DirLock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.disk.state.lock().locks.remove(&self.path);
    }
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    inode: u64,
}

impl SimFile {
    fn with<T>(&self, f: impl FnOnce(&mut Inode) -> T) -> T {
        f(self.disk.state.lock().inodes.entry(self.inode).or_default())
    }
}

impl DiskFile for SimFile {
    fn write_all_at(&self, parts: &mut [IoSlice<'_>], position: u64) -> io::Result<()> {
        let mut state = self.disk.state.lock();
        state.change()?;
        let mut bytes: Vec<u8> = Vec::new();
        parts.iter().for_each(|part| bytes.extend_from_slice(part));
        let have = state
            .inodes
            .get(&self.inode)
            .map_or(0, |inode| inode.cached.len() as u64);
        let end = position + bytes.len() as u64;
        let written = state.space_for(end.saturating_sub(have));
        if written.is_err() {
            let fits = (have + state.room()).saturating_sub(position);
            bytes.truncate(fits as usize);
        }
        if !bytes.is_empty() {
            let inode = state.inodes.entry(self.inode).or_default();
            inode.write(position as usize, &bytes);
        }
        written
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let hook = self.disk.state.lock().before_read.take();
        if let Some(ReadHook(run)) = hook {
            run();
        }
        self.disk.state.lock().power()?;
        Ok(self.with(|inode| {
            let start = (position as usize).min(inode.cached.len());
            let len = buffer.len().min(inode.cached.len() - start);
            buffer[..len].copy_from_slice(&inode.cached[start..start + len]);
            len
        }))
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.disk.state.lock();
        state.sync_fault()?;
        let loses = state.fault.sync_loses_at == Some(state.file_syncs);
        state.file_syncs += 1;
        let inode = state.inodes.entry(self.inode).or_default();
        if loses {
            inode.lose();
            return Err(io::Error::other("simulated I/O error on sync"));
        }
        inode.sync();
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.disk.state.lock();
        state.change()?;
        state
            .inodes
            .entry(self.inode)
            .or_default()
            .set_len(len as usize);
        Ok(())
    }

    fn free_tail(&self) -> io::Result<Option<u64>> {
        let mut state = self.disk.state.lock();
        if state.names.values().any(|inode| *inode == self.inode) {
            return Ok(None);
        }
        let len = state.inodes.entry(self.inode).or_default().cached.len();
        let left = len.saturating_sub(1) / SECTOR * SECTOR;
        if left < len {
            state.change()?;
            state.inodes.entry(self.inode).or_default().set_len(left);
        }
        Ok(Some(left as u64))
    }

    fn len(&self) -> io::Result<u64> {
        self.disk.state.lock().power()?;
        Ok(self.with(|inode| inode.cached.len() as u64))
    }

    fn map(&self, len: usize) -> io::Result<Mapping> {
        Ok(Mapping::of_bytes(self.with(|inode| {
            inode.cached[..len.min(inode.cached.len())].to_vec()
        })))
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}
