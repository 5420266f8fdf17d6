//! The single-node shell around the state machine: a log, a snapshot, and the published image.
//!
//! A change is decided on the newest image, written to the log, flushed, and only then published,
//! so nobody can act on a change that a power loss could take back. When the log has grown, the image
//! is written as a snapshot (`snapshot-{offset}.json`, atomically) and the log before it is dropped.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use dlog_storage::{FlushPolicy, Log, LogConfig, LogEnv};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::image::{MetadataError, MetadataImage, PlainImage, Result};
use crate::record::{MetadataRecord, decode_change, encode_change};

/// Name of the folder of the metadata log inside the data folder.
pub const FOLDER: &str = "__cluster_metadata-0";

/// The log is folded into a snapshot when it is larger than this, in bytes.
const SNAPSHOT_AFTER_BYTES: u64 = 8 << 20;

/// Why a change was not made: the caller's own reason, or a failure to write it.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError<E> {
    /// The deciding function refused.
    #[error("{0}")]
    Refused(E),
    /// The change could not be applied or written; nothing was published.
    #[error(transparent)]
    Failed(#[from] MetadataError),
}

/// The metadata of a single node, durable. Readers never block.
pub struct LocalMetadataLog {
    dir: PathBuf,
    log: Arc<Log>,
    image: ArcSwap<MetadataImage>,
    writer: Mutex<()>,
}

#[derive(Serialize, Deserialize)]
struct Snapshot {
    v: u32,
    image: PlainImage,
}

impl LocalMetadataLog {
    /// Opens (creating it when missing) the metadata log in `data_dir` and replays it.
    ///
    /// # Errors
    /// When the log or snapshot cannot be read, or holds records that contradict each other.
    pub fn open(env: &LogEnv, data_dir: &Path) -> Result<Self> {
        let dir = data_dir.join(FOLDER);
        let config = LogConfig {
            flush: FlushPolicy::Always,
            retention_ms: None,
            segment_bytes: 4 << 20,
            ..LogConfig::default()
        };
        let (log, report) = Log::open_with(env, &dir, config)?;
        tracing::debug!(?report, "metadata log opened");
        let (mut image, from) = load_snapshot(&dir)?;
        let from = from.max(log.log_start_offset());
        for record in log.read(from)? {
            let record = record?;
            let change = decode_change(record.value.as_deref().unwrap_or_default())?;
            for entry in &change {
                image.apply(entry)?;
            }
        }
        Ok(Self {
            dir,
            log,
            image: ArcSwap::from_pointee(image),
            writer: Mutex::new(()),
        })
    }

    /// Offset behind the last change.
    pub fn end_offset(&self) -> i64 {
        self.log.log_end_offset()
    }

    /// The newest published image.
    pub fn image(&self) -> Arc<MetadataImage> {
        self.image.load_full()
    }

    /// Decides on the newest image, then writes, flushes and publishes. Blocks on the disk; changes
    /// are made one after the other. `decide` returns the records and whatever the caller wants back;
    /// no records means nothing to do.
    ///
    /// # Errors
    /// [`ChangeError::Refused`] with the caller's reason, or [`ChangeError::Failed`].
    pub fn change<T, E>(
        &self,
        decide: impl FnOnce(&MetadataImage) -> std::result::Result<(Vec<MetadataRecord>, T), E>,
    ) -> std::result::Result<T, ChangeError<E>> {
        let _one_at_a_time = self.writer.lock();
        let current = self.image.load_full();
        let (records, answer) = decide(&current).map_err(ChangeError::Refused)?;
        if records.is_empty() {
            return Ok(answer);
        }
        let mut next = (*current).clone();
        for record in &records {
            next.apply(record)?;
        }
        let bytes = encode_change(&records)?;
        self.log
            .append(None, Some(&bytes))
            .map_err(MetadataError::from)?;
        self.image.store(Arc::new(next));
        if self.log.size_bytes() > SNAPSHOT_AFTER_BYTES
            && let Err(error) = self.write_snapshot()
        {
            tracing::warn!(%error, "metadata snapshot was not written; the log keeps growing until it is");
        }
        Ok(answer)
    }

    /// Flushes and closes the log; later changes fail.
    ///
    /// # Errors
    /// When the log cannot be closed cleanly.
    pub fn close(&self) -> Result<()> {
        let _no_change_meanwhile = self.writer.lock();
        Ok(self.log.close()?)
    }

    /// Folds everything so far into a snapshot. The writer lock must be held.
    fn write_snapshot(&self) -> Result<()> {
        let offset = self.log.log_end_offset();
        let snapshot = Snapshot {
            v: crate::record::ENCODING_VERSION,
            image: self.image.load().to_plain(),
        };
        let bytes =
            serde_json::to_vec(&snapshot).map_err(|e| MetadataError::Encoding(e.to_string()))?;
        let path = self.dir.join(format!("snapshot-{offset:020}.json"));
        replace_file(&path, &bytes).map_err(|source| MetadataError::Snapshot { path, source })?;
        self.log.delete_records_before(offset)?;
        for (older, path) in snapshots(&self.dir) {
            if older < offset
                && let Err(error) = fs::remove_file(&path)
            {
                tracing::warn!(path = %path.display(), %error, "an old metadata snapshot stays behind");
            }
        }
        Ok(())
    }
}

/// Writes a file so that a crash leaves either the old one or the new one.
fn replace_file(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let temporary = path.with_extension("tmp");
    let mut file = fs::File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    match path.parent() {
        Some(dir) => fs::File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

/// Snapshots in the folder, oldest first.
fn snapshots(dir: &Path) -> Vec<(i64, PathBuf)> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut found: Vec<_> = entries
        .filter_map(|entry| {
            let path = entry.path();
            let name = path.file_name()?.to_str()?;
            let offset = name
                .strip_prefix("snapshot-")?
                .strip_suffix(".json")?
                .parse()
                .ok()?;
            Some((offset, path))
        })
        .collect();
    found.sort_unstable();
    found
}

fn load_snapshot(dir: &Path) -> Result<(MetadataImage, i64)> {
    let Some((offset, path)) = snapshots(dir).pop() else {
        return Ok((MetadataImage::default(), 0));
    };
    let bytes = fs::read(&path).map_err(|source| MetadataError::Snapshot {
        path: path.clone(),
        source,
    })?;
    let snapshot: Snapshot = serde_json::from_slice(&bytes)
        .map_err(|e| MetadataError::Encoding(format!("{}: {e}", path.display())))?;
    if snapshot.v > crate::record::ENCODING_VERSION {
        return Err(MetadataError::Encoding(format!(
            "{} was written by a newer release",
            path.display()
        )));
    }
    Ok((MetadataImage::from_plain(snapshot.image), offset))
}
