//! The file-system seam: every byte the engine reads or writes passes through [`Disk`].
//!
//! Job: let the engine run on the real file system ([`RealDisk`]) and on one that forgets what was
//! not synced ([`SimDisk`]), so that power loss is tested by the thousand.
//!
//! Invariants the engine relies on, and both implementations keep:
//! - what [`DiskFile::sync_data`] returned for survives power loss, file size included;
//! - a name created, renamed or removed survives only after [`Disk::sync_dir`] on its folder;
//! - a failed `sync_data` says nothing about which bytes survived, and is never retried.

use std::fmt::Debug;
use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{IoContext, StorageError};

mod mapping;
mod real;
mod sim;

pub use mapping::Mapping;
pub use real::RealDisk;
pub use sim::{SimDisk, SimFault};

static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// Existing file, reading only.
    Read,
    /// Existing file, reading and writing.
    ReadWrite,
    /// Created when missing, emptied when present, reading and writing.
    Create,
}

/// What a range of a file will be used for, so that the page cache can be managed accordingly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpectedUse {
    /// It is read from front to back: more may be read ahead.
    Sequential,
    /// Just what is asked for is read, nothing ahead.
    Exact,
    /// Not soon: the cache may be used for something else. What is not on the disk yet stays.
    NotSoon,
}

/// One entry of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// File name without its folder.
    pub name: String,
    /// Size in bytes (0 for folders).
    pub len: u64,
    /// Whether it is a folder.
    pub is_dir: bool,
}

/// The room on a file system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// Size in bytes.
    pub total_bytes: u64,
    /// Bytes in use, by anybody.
    pub used_bytes: u64,
    /// Bytes that this process may still use: less than the rest where some are kept for root.
    pub free_bytes: u64,
}

/// Released when dropped: the right to be the only process in a folder.
pub trait DirLock: Send + Sync + Debug {}

/// A file system as the engine sees it.
pub trait Disk: Send + Sync + Debug {
    /// Opens a file.
    ///
    /// # Errors
    /// The operating system's error.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>>;
    /// Renames a file, replacing the target. Durable after [`Disk::sync_dir`].
    ///
    /// # Errors
    /// The operating system's error.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file. Durable after [`Disk::sync_dir`].
    ///
    /// # Errors
    /// The operating system's error.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Creates a folder and its missing parents, each durably linked into its parent.
    ///
    /// # Errors
    /// The operating system's error.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Removes a folder with all it contains.
    ///
    /// # Errors
    /// The operating system's error.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Lists a folder, sorted by name.
    ///
    /// # Errors
    /// The operating system's error.
    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>>;
    /// Makes names created, renamed and removed in a folder durable.
    ///
    /// # Errors
    /// The operating system's error.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Takes the exclusive right to a folder; `None` when somebody else holds it.
    ///
    /// # Errors
    /// The operating system's error.
    fn try_lock(&self, path: &Path) -> io::Result<Option<Box<dyn DirLock>>>;
    /// The room on the file system that a path is on. Waits for no disk on local file systems.
    ///
    /// # Errors
    /// The operating system's error; [`io::ErrorKind::Unsupported`] where there is no telling.
    fn space(&self, path: &Path) -> io::Result<Space> {
        let _ = path;
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// An open file with positional access; safe to use from several threads.
pub trait DiskFile: Send + Sync + Debug {
    /// Writes all bytes at a position, growing the file when needed.
    ///
    /// # Errors
    /// The operating system's error; part of the bytes may have been written.
    fn write_all_at(&self, parts: &mut [IoSlice<'_>], position: u64) -> io::Result<()>;
    /// Reads up to `buffer.len()` bytes; fewer only at the end of the file.
    ///
    /// # Errors
    /// The operating system's error.
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize>;
    /// Makes written bytes and the file size durable (`fdatasync`).
    ///
    /// # Errors
    /// The operating system's error; see the module's invariants.
    fn sync_data(&self) -> io::Result<()>;
    /// Cuts or extends (with zeros) the file.
    ///
    /// # Errors
    /// The operating system's error.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Frees some of the end of a file that has no name any more, at most a few MiB: whole pages of the
    /// cache, so that what is on its way through a socket (`sendfile`) stays as it is until it arrives.
    /// Returns the bytes that are left; `None` for a file that has a name, or where it cannot be done.
    ///
    /// # Errors
    /// The operating system's error.
    fn free_tail(&self) -> io::Result<Option<u64>> {
        Ok(None)
    }
    /// Grows the file to `len` bytes of zeros that have their place on the disk.
    ///
    /// # Errors
    /// The operating system's error; the file may have grown by less.
    fn allocate(&self, len: u64) -> io::Result<()> {
        let have = self.len()?;
        write_zeros(self, have, len)
    }
    /// Current size in bytes.
    ///
    /// # Errors
    /// The operating system's error.
    fn len(&self) -> io::Result<u64>;
    /// Maps the first `len` bytes for reading.
    ///
    /// # Errors
    /// The operating system's error.
    fn map(&self, len: usize) -> io::Result<Mapping>;
    /// The descriptor for `sendfile`, where there is one.
    fn descriptor(&self) -> Option<BorrowedFd<'_>>;
    /// Tells the operating system how a range will be used; nothing depends on it.
    fn advise(&self, _use: ExpectedUse, _position: u64, _len: u64) {}
    /// Whether the file has no bytes.
    ///
    /// # Errors
    /// The operating system's error.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

/// Writes zeros from a position up to another.
fn write_zeros<F: DiskFile + ?Sized>(file: &F, mut position: u64, end: u64) -> io::Result<()> {
    while position < end {
        let part = (end - position).min(ZEROS.len() as u64) as usize;
        file.write_all_at(&mut [IoSlice::new(&ZEROS[..part])], position)?;
        position += part as u64;
    }
    Ok(())
}

/// Reads exactly `buffer.len()` bytes.
///
/// # Errors
/// [`io::ErrorKind::UnexpectedEof`] when the file ends first.
pub fn read_exact_at(file: &dyn DiskFile, buffer: &mut [u8], position: u64) -> io::Result<()> {
    let read = file.read_at(buffer, position)?;
    if read < buffer.len() {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
    }
    Ok(())
}

/// Reads a whole file, refusing one larger than `limit` bytes.
///
/// # Errors
/// The operating system's error, or [`io::ErrorKind::FileTooLarge`].
pub fn read_file(disk: &dyn Disk, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let file = disk.open(path, OpenMode::Read)?;
    let len = file.len()?;
    if len > limit {
        return Err(io::Error::from(io::ErrorKind::FileTooLarge));
    }
    let mut bytes = vec![0; len as usize];
    let read = file.read_at(&mut bytes, 0)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// Replaces a small file so that after a crash either the old or the new content is there, whole:
/// write beside it, sync, rename, sync the folder.
///
/// # Errors
/// The operating system's error; the old content stays.
pub fn replace_file(disk: &dyn Disk, path: &Path, content: &[u8]) -> io::Result<()> {
    replace_file_named(disk, path, content).map_err(|error| match error {
        StorageError::Io { source, .. } => source,
        other => io::Error::other(other),
    })
}

/// As [`replace_file`], with an error that names the step: a failed sync is told from a full disk.
pub(crate) fn replace_file_named(
    disk: &dyn Disk,
    path: &Path,
    content: &[u8],
) -> Result<(), StorageError> {
    replace_file_lazily(disk, path, content)?;
    match path.parent() {
        Some(dir) => disk.sync_dir(dir).context("sync", dir),
        None => Ok(()),
    }
}

/// As [`replace_file`], but the new name is durable only after the folder's next sync: until then a
/// crash may bring the old content back, whole.
pub(crate) fn replace_file_lazily(
    disk: &dyn Disk,
    path: &Path,
    content: &[u8],
) -> Result<(), StorageError> {
    let beside = temporary_name(path);
    let file = disk
        .open(&beside, OpenMode::Create)
        .context("create", &beside)?;
    file.write_all_at(&mut [IoSlice::new(content)], 0)
        .context("write", &beside)?;
    file.sync_data().context("sync", &beside)?;
    disk.rename(&beside, path).context("replace", path)
}

/// `{file name}.tmp`: apart for each file of a segment.
fn temporary_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    name.into()
}
