//! The real file system.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

#[cfg(target_os = "linux")]
use super::ExpectedUse;
use super::{DirEntry, DirLock, Disk, DiskFile, Mapping, OpenMode, Space};

/// The largest piece that Linux caches a file in, where pages have 4 KiB. A file that is cut within such a
/// piece has the rest of it filled with zeros, also where a socket still refers to it.
#[cfg(target_os = "linux")]
const FOLIO_BYTES: u64 = 2 << 20;

/// The operating system's file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true);
        match mode {
            OpenMode::Read => {}
            OpenMode::ReadWrite => {
                options.write(true);
            }
            OpenMode::Create => {
                options.write(true).create(true).truncate(true);
            }
        }
        Ok(Arc::new(RealFile {
            file: options.open(path)?,
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        if path.is_dir() {
            return Ok(());
        }
        if let Some(parent) = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
        {
            self.create_dir_all(parent)?;
            create_dir_if_missing(path)?;
            return self.sync_dir(parent);
        }
        create_dir_if_missing(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            // A name that is not UTF-8 is not one of ours.
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            let len = if metadata.is_dir() { 0 } else { metadata.len() };
            entries.push(DirEntry {
                name,
                len,
                is_dir: metadata.is_dir(),
            });
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn try_lock(&self, path: &Path) -> io::Result<Option<Box<dyn DirLock>>> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Box::new(RealLock { _file: file }))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        let stat = rustix::fs::statvfs(path)?;
        let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
        Ok(Space {
            total_bytes: bytes(stat.f_blocks),
            used_bytes: bytes(stat.f_blocks.saturating_sub(stat.f_bfree)),
            free_bytes: bytes(stat.f_bavail),
        })
    }
}

fn create_dir_if_missing(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        other => other,
    }
}

/// The lock lives as long as the open file description.
#[derive(Debug)]
struct RealLock {
    _file: File,
}

impl DirLock for RealLock {}

#[derive(Debug)]
struct RealFile {
    file: File,
}

impl DiskFile for RealFile {
    fn write_all_at(&self, mut parts: &mut [IoSlice<'_>], mut position: u64) -> io::Result<()> {
        IoSlice::advance_slices(&mut parts, 0);
        while !parts.is_empty() {
            match rustix::io::pwritev(&self.file, parts, position) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    position += written as u64;
                    IoSlice::advance_slices(&mut parts, written);
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let mut read = 0;
        while read < buffer.len() {
            match self
                .file
                .read_at(&mut buffer[read..], position + read as u64)
            {
                Ok(0) => break,
                Ok(count) => read += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(read)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    #[cfg(target_os = "linux")]
    fn free_tail(&self) -> io::Result<Option<u64>> {
        let stat = rustix::fs::fstat(&self.file)?;
        if stat.st_nlink > 0 || rustix::param::page_size() != 4096 {
            return Ok(None);
        }
        let len = u64::try_from(stat.st_size).unwrap_or_default();
        let left = len.saturating_sub(1) / FOLIO_BYTES * FOLIO_BYTES;
        if left < len {
            self.file.set_len(left)?;
        }
        Ok(Some(left))
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        use rustix::fs::{FallocateFlags, fallocate};
        use rustix::io::Errno;
        match fallocate(&self.file, FallocateFlags::empty(), 0, len) {
            // Zeros that are written have their place, too.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                let have = self.len()?;
                super::write_zeros(self, have, len)
            }
            allocated => Ok(allocated?),
        }
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn map(&self, len: usize) -> io::Result<Mapping> {
        Mapping::of_file(&self.file, len)
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.file.as_fd())
    }

    #[cfg(target_os = "linux")]
    fn advise(&self, expected: ExpectedUse, position: u64, len: u64) {
        use rustix::fs::{Advice, fadvise};
        let advice = match expected {
            ExpectedUse::Sequential => Advice::Sequential,
            ExpectedUse::Exact => Advice::Random,
            ExpectedUse::NotSoon => Advice::DontNeed,
        };
        // Advice that is not taken costs memory, not correctness.
        let _ = fadvise(&self.file, position, std::num::NonZeroU64::new(len), advice);
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn what_is_in_a_socket_survives_that_its_file_is_freed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let file = RealDisk.open(&path, OpenMode::Create).unwrap();
        let bytes: Vec<u8> = (0..=250).cycle().take((5 << 20) + 7).collect();
        file.write_all_at(&mut [IoSlice::new(&bytes)], 0).unwrap();
        file.sync_data().unwrap();
        assert_eq!(file.free_tail().unwrap(), None, "it has a name");
        assert_eq!(file.len().unwrap(), bytes.len() as u64);
        RealDisk.remove_file(&path).unwrap();

        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut lefts = Vec::new();
        let mut sent = Vec::new();
        // Where each of the cuts is going to be, and at the end.
        for begin in [(2 << 20) - 9_000, (4 << 20) - 9_000, bytes.len() - 18_000] {
            let sender = TcpStream::connect(address).unwrap();
            let receiver = listener.accept().unwrap().0;
            let (mut at, end) = (begin as u64, (begin + 18_000) as u64);
            while at < end {
                let descriptor = file.descriptor().unwrap();
                let left = (end - at) as usize;
                rustix::fs::sendfile(&sender, descriptor, Some(&mut at), left).unwrap();
            }
            sent.push((begin, sender, receiver));
        }
        while lefts.last() != Some(&0) {
            lefts.push(file.free_tail().unwrap().unwrap());
        }
        assert_eq!(lefts, [4 << 20, 2 << 20, 0]);
        for (begin, sender, mut receiver) in sent {
            drop(sender);
            let mut received = Vec::new();
            receiver.read_to_end(&mut received).unwrap();
            assert!(received == bytes[begin..begin + 18_000], "from {begin}");
        }
    }
}
