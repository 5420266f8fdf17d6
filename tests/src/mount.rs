//! A small file system of a test's own, in memory.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, ensure};

use crate::skip;

/// Whether this process is root's.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A file system in memory, mounted for the time of a test.
#[derive(Debug)]
pub struct Mount {
    /// Where it is mounted.
    pub path: PathBuf,
    // Removed after the unmount.
    _folder: tempfile::TempDir,
}

impl Mount {
    /// `None`, with a line that says so, where mounting is not allowed. The size is as `mount` takes it.
    ///
    /// # Errors
    /// No folder can be made.
    pub fn new(test: &str, size: &str) -> Result<Option<Self>> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("mounted");
        std::fs::create_dir(&path)?;
        let option = format!("size={size}");
        let mounted = is_root()
            && Command::new("mount")
                .args(["-t", "tmpfs", "-o", &option, "tmpfs"])
                .arg(&path)
                .status()
                .is_ok_and(|s| s.success());
        if !mounted {
            skip(test, "mounting a tmpfs needs root");
            return Ok(None);
        }
        Ok(Some(Self {
            path,
            _folder: folder,
        }))
    }

    /// Mounts it again with other options.
    ///
    /// # Errors
    /// `mount` failed.
    pub fn remount(&self, options: &str) -> Result<()> {
        let status = Command::new("mount")
            .args(["-o", &format!("remount,{options}")])
            .arg(&self.path)
            .status()?;
        ensure!(status.success(), "remount {options}");
        Ok(())
    }

    /// Bytes that are free.
    ///
    /// # Errors
    /// The file system does not answer.
    pub fn free_bytes(&self) -> Result<u64> {
        let stat = rustix::fs::statvfs(&self.path)?;
        Ok(stat.f_bavail * stat.f_frsize)
    }

    /// Takes room as another program would, until this much is free or nothing more can be had.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn fill_to(&self, free_bytes: u64) -> Result<Filler> {
        let path = self.path.join("filler");
        let mut file = File::options().create(true).append(true).open(&path)?;
        while self.free_bytes()? > free_bytes {
            let more = (self.free_bytes()? - free_bytes).min(1 << 20);
            if file.write_all(&vec![1; more as usize]).is_err() {
                break;
            }
        }
        Ok(Filler(path))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.path).status();
    }
}

/// What another program wrote; gone when dropped.
#[derive(Debug)]
pub struct Filler(PathBuf);

impl Drop for Filler {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
