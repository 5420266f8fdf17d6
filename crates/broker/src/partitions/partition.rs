//! One partition: its log, or why it has none, and the fetches that wait for it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use dlog_storage::{Log, LogEvent};
use kafka_protocol::ResponseError;
use uuid::Uuid;

use super::waiting::WaitList;

/// One partition on this node.
#[derive(Debug)]
pub struct Partition {
    /// Name of the topic.
    pub topic: Arc<str>,
    /// Id of the topic.
    pub topic_id: Uuid,
    /// Index in the topic.
    pub index: i32,
    /// Folder of the log.
    pub dir: PathBuf,
    /// The log, or why it could not be opened.
    log: Result<Arc<Log>, Unopened>,
    leader_epoch: AtomicI32,
    waiters: WaitList,
}

/// Why a partition has no log.
#[derive(Clone, Debug)]
pub(super) struct Unopened {
    /// For people.
    pub(super) reason: String,
    /// There was no room on the disk, and nothing else was wrong.
    pub(super) disk_full: bool,
}

impl Unopened {
    pub(super) fn new(reason: String) -> Self {
        Self {
            reason,
            disk_full: false,
        }
    }

    pub(super) fn io(what: &Path, error: &std::io::Error) -> Self {
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        Self {
            reason: format!("{}: {error}", what.display()),
            disk_full: matches!(error.kind(), StorageFull | QuotaExceeded),
        }
    }
}

/// What identifies a partition.
#[derive(Clone, Debug)]
pub struct PartitionId {
    /// Name of the topic.
    pub topic: Arc<str>,
    /// Id of the topic.
    pub topic_id: Uuid,
    /// Index in the topic.
    pub index: i32,
    /// Folder of the log.
    pub dir: PathBuf,
}

impl Partition {
    /// A partition with its opened log, or offline with the reason.
    pub(super) fn new(
        id: PartitionId,
        log: Result<Arc<Log>, Unopened>,
        leader_epoch: i32,
    ) -> Arc<Self> {
        let PartitionId {
            topic,
            topic_id,
            index,
            dir,
        } = id;
        let partition = Arc::new(Self {
            topic,
            topic_id,
            index,
            dir,
            log,
            leader_epoch: AtomicI32::new(leader_epoch),
            waiters: WaitList::default(),
        });
        if let Ok(log) = &partition.log {
            let listened = Arc::downgrade(&partition);
            log.subscribe(Arc::new(move |event| {
                if let Some(partition) = listened.upgrade() {
                    partition.heard(event);
                }
            }));
        }
        partition
    }

    /// The log.
    ///
    /// # Errors
    /// `KAFKA_STORAGE_ERROR` while the partition is offline.
    pub fn log(&self) -> Result<&Arc<Log>, ResponseError> {
        self.log
            .as_ref()
            .map_err(|_| ResponseError::KafkaStorageError)
    }

    /// Why the partition is offline, if it is.
    pub fn offline_reason(&self) -> Option<String> {
        match &self.log {
            Ok(log) => log.offline_reason().map(str::to_owned),
            Err(unopened) => Some(unopened.reason.clone()),
        }
    }

    /// Whether it could not be opened for want of room on the disk: it can when there is room.
    pub fn is_starved(&self) -> bool {
        self.log.as_ref().is_err_and(|unopened| unopened.disk_full)
    }

    /// Epoch of this node's leadership.
    pub fn leader_epoch(&self) -> i32 {
        self.leader_epoch.load(Ordering::Acquire)
    }

    /// Checks the leader epoch that a client believes in; -1 is no belief (KIP-320).
    ///
    /// # Errors
    /// `FENCED_LEADER_EPOCH` when it is older, `UNKNOWN_LEADER_EPOCH` when it is newer.
    pub fn check_leader_epoch(&self, believed: i32) -> Result<(), ResponseError> {
        let current = self.leader_epoch();
        match believed {
            -1 => Ok(()),
            _ if believed < current => Err(ResponseError::FencedLeaderEpoch),
            _ if believed > current => Err(ResponseError::UnknownLeaderEpoch),
            _ => Ok(()),
        }
    }

    /// The largest epoch at or below `epoch` and where its records end; `None` when this log cannot know.
    pub fn end_of_epoch(&self, log: &Log, epoch: i32) -> Option<(i32, i64)> {
        if epoch == self.leader_epoch() {
            // Also when this leader has not written yet.
            return Some((epoch, log.acknowledged_end()));
        }
        log.end_offset_for_epoch(epoch)
    }

    /// Wakes all waiting fetches: there is more to read, or the partition is gone.
    pub fn wake(&self) {
        self.waiters.wake();
    }

    /// The fetches that wait for this partition.
    pub fn waiters(&self) -> &WaitList {
        &self.waiters
    }

    fn heard(&self, event: LogEvent) {
        match event {
            LogEvent::AcknowledgedEnd(_) => self.wake(),
            LogEvent::Offline => {
                tracing::error!(topic = %self.topic, partition = self.index, "the partition is offline");
                self.wake();
            }
        }
    }
}
