//! What the fuzz targets share: a log on a simulated disk, and repaired checksums.
//!
//! A fuzzer does not guess a CRC32C, so targets repair checksums on request (a bit of the input):
//! without that, nothing behind the checksum would ever be reached.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use dlog_storage::disk::SimDisk;
use dlog_storage::record::crc32c;
use dlog_storage::{Flusher, Format, LogConfig, LogEnv};

/// The folder of the log.
pub const DIR: &str = "/data/t-0";

/// Small, so that a short input spans segments and index entries.
pub fn config(format: Format) -> LogConfig {
    LogConfig {
        format,
        segment_bytes: 700,
        index_interval_bytes: 64,
        zero_ahead_bytes: 0,
        checkpoint_bytes: 4096,
        retention_ms: None,
        retention_bytes: None,
        ..LogConfig::default()
    }
}

/// An environment on the simulated disk: no threads, a clock that stands still.
pub fn env(disk: &SimDisk) -> LogEnv {
    LogEnv {
        disk: Arc::new(disk.clone()),
        flusher: Arc::new(Flusher::manual()),
        clock: Arc::new(|| 5_000),
        take_lock: false,
    }
}

/// Path of the segment that begins at `base`, with an extension.
pub fn segment_file(base: i64, extension: &str) -> PathBuf {
    Path::new(DIR).join(format!("{base:020}.{extension}"))
}

/// Makes the CRC of every delimitable v2 batch the right one.
pub fn repair_batches(bytes: &mut [u8]) {
    let mut position = 0;
    while let Some(head) = bytes.get(position..position + 61) {
        let len = i32::from_be_bytes([head[8], head[9], head[10], head[11]]);
        let Some(end) = usize::try_from(len)
            .ok()
            .and_then(|len| position.checked_add(12)?.checked_add(len))
        else {
            return;
        };
        if end < position + 61 || end > bytes.len() {
            return;
        }
        let crc = crc32c(&bytes[position + 21..end]);
        bytes[position + 17..position + 21].copy_from_slice(&crc.to_be_bytes());
        position = end;
    }
}

/// Makes the CRC of every delimitable v1 message the right one.
pub fn repair_messages(bytes: &mut [u8]) {
    let mut position = 0;
    while let Some(head) = bytes.get(position..position + 8) {
        let len = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let Some(end) = (position + 8)
            .checked_add(len)
            .filter(|end| *end <= bytes.len() && len > 0)
        else {
            return;
        };
        let crc = crc32c(&bytes[position + 8..end]);
        bytes[position + 4..position + 8].copy_from_slice(&crc.to_be_bytes());
        position = end;
    }
}

/// Makes the CRC of a checkpoint's text the right one; the last line is replaced.
pub fn repair_checkpoint(bytes: &mut Vec<u8>) {
    const LINE: usize = "crc 00000000\n".len();
    let body = bytes.len().saturating_sub(LINE);
    bytes.truncate(body);
    let crc = crc32c(bytes);
    bytes.extend_from_slice(format!("crc {crc:08x}\n").as_bytes());
}
