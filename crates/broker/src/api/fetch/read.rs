//! What can be read now: one look at each partition of a fetch.

use std::sync::Arc;

use dlog_storage::{AbortedTransaction, Committed, LogSlice, ReadLimit, SliceBytes, StorageError};
use kafka_protocol::ResponseError;

use super::{TopicKey, Wanted};
use crate::error::storage_error_code;
use crate::partitions::{HostedTopic, Partition, Partitions};

/// Records behind the end from which on a fetch counts as one of old data.
const FAR_BEHIND: i64 = 50_000;

/// Bounds of a whole fetch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) max_bytes: usize,
    pub(super) min_bytes: usize,
    /// Only what was committed is wanted: nothing behind the last stable offset is sent (KIP-98).
    pub(super) committed_only: bool,
}

/// What a client wants of one partition, with the partition, if it is here.
#[derive(Debug)]
pub(super) struct Target {
    wanted: Wanted,
    found: Result<(Arc<HostedTopic>, Arc<Partition>), ResponseError>,
}

impl Target {
    pub(super) fn find(partitions: &Partitions, wanted: &Wanted) -> Self {
        let (topic, unknown) = match &wanted.topic {
            TopicKey::Name(name) => (
                partitions.topic(name),
                ResponseError::UnknownTopicOrPartition,
            ),
            TopicKey::Id(id) => (partitions.topic_by_id(*id), ResponseError::UnknownTopicId),
        };
        let found = topic.ok_or(unknown).and_then(|topic| {
            let partition = topic.partition(wanted.index).cloned();
            partition
                .map(|p| (topic, p))
                .ok_or(ResponseError::UnknownTopicOrPartition)
        });
        Self {
            wanted: wanted.clone(),
            found,
        }
    }

    pub(super) fn partition(&self) -> Option<&Partition> {
        self.found.as_ref().ok().map(|(_, partition)| &**partition)
    }

    /// Whether the offset is so old that its place may not be in memory.
    pub(super) fn is_far_behind(&self) -> bool {
        let log = self.partition().and_then(|partition| partition.log().ok());
        log.is_some_and(|log| {
            log.acknowledged_end().saturating_sub(self.wanted.offset) > FAR_BEHIND
        })
    }

    /// One look. `max_bytes` is what the fetch has left; `is_first` lets one batch exceed it.
    fn look(&self, max_bytes: usize, is_first: bool, committed_only: bool) -> Looked {
        let mut looked = Looked {
            topic: self.wanted.topic.clone(),
            index: self.wanted.index,
            error: None,
            high_watermark: -1,
            last_stable: -1,
            log_start: -1,
            diverging: None,
            aborted: committed_only.then(Vec::new),
            records: SliceBytes::Empty,
            hosted: self.found.as_ref().ok().map(|(topic, _)| topic.clone()),
        };
        if let Err(error) = self.read(&mut looked, max_bytes, is_first) {
            looked.error = Some(error);
            looked.aborted = None;
        }
        looked
    }

    fn read(
        &self,
        looked: &mut Looked,
        max_bytes: usize,
        is_first: bool,
    ) -> Result<(), ResponseError> {
        let wanted = &self.wanted;
        let (_, partition) = self.found.as_ref().map_err(|error| *error)?;
        partition.check_leader_epoch(wanted.current_leader_epoch)?;
        let log = partition.log()?;
        if wanted.last_fetched_epoch >= 0 {
            let (epoch, end) = partition
                .end_of_epoch(log, wanted.last_fetched_epoch)
                .ok_or(ResponseError::OffsetOutOfRange)?;
            if epoch < wanted.last_fetched_epoch || end < wanted.offset {
                looked.diverging = Some((epoch, end));
                looked.high_watermark = log.acknowledged_end();
                looked.last_stable = log.last_stable_offset();
                looked.log_start = log.log_start_offset();
                return Ok(());
            }
        }
        let limit = wanted.max_bytes.min(max_bytes);
        let read = if looked.aborted.is_some() {
            log.read_committed(wanted.offset, limit)
        } else {
            let records = log.read_range(wanted.offset, limit, ReadLimit::Acknowledged);
            records.map(|records| Committed {
                records,
                aborted: Vec::new(),
            })
        };
        let Committed { records: slice, aborted } = read.map_err(|error| {
            if !matches!(error, StorageError::OffsetOutOfRange { .. } | StorageError::Closed { .. }) {
                tracing::error!(topic = %partition.topic, partition = partition.index, offset = wanted.offset, %error, "fetch failed");
            }
            storage_error_code(&error)
        })?;
        // Looked at after the records, so that it is never behind them.
        looked.last_stable = log.last_stable_offset();
        looked.high_watermark = log.acknowledged_end();
        looked.log_start = log.log_start_offset();
        if fits(&slice, limit, is_first) {
            looked.records = slice.bytes;
            if let Some(told) = &mut looked.aborted {
                *told = aborted;
            }
        }
        Ok(())
    }
}

/// Only the first partition with records may exceed the limits, by one batch (KIP-74).
fn fits(slice: &LogSlice, limit: usize, is_first: bool) -> bool {
    !slice.is_empty() && (is_first || slice.first_batch_bytes <= limit)
}

/// What one partition has to say.
#[derive(Clone, Debug)]
pub(super) struct Looked {
    pub(super) topic: TopicKey,
    pub(super) index: i32,
    pub(super) error: Option<ResponseError>,
    pub(super) high_watermark: i64,
    pub(super) last_stable: i64,
    pub(super) log_start: i64,
    /// The epoch and end offset up to which the client's log may agree.
    pub(super) diverging: Option<(i32, i64)>,
    pub(super) records: SliceBytes,
    /// The aborted transactions among the records, for who wants only committed ones.
    pub(super) aborted: Option<Vec<AbortedTransaction>>,
    hosted: Option<Arc<HostedTopic>>,
}

impl Looked {
    /// Number of record bytes.
    pub(super) fn len(&self) -> usize {
        match &self.records {
            SliceBytes::Empty => 0,
            SliceBytes::File { len, .. } => *len,
            SliceBytes::Memory(bytes) => bytes.len(),
        }
    }

    /// Counts the bytes for the topic.
    pub(super) fn count(&self) {
        if let Some(hosted) = &self.hosted {
            hosted.metrics.bytes_out.inc_by(self.len() as u64);
        }
    }
}

/// One look at all partitions of a fetch.
#[derive(Debug)]
pub(super) struct Evaluation {
    pub(super) results: Vec<Looked>,
    bytes: usize,
    /// Something that the client must hear about at once.
    is_urgent: bool,
}

impl Evaluation {
    pub(super) fn of(targets: &[Target], limits: Limits) -> Self {
        let mut evaluation = Self {
            results: Vec::with_capacity(targets.len()),
            bytes: 0,
            is_urgent: targets.is_empty(),
        };
        for target in targets {
            let left = limits.max_bytes.saturating_sub(evaluation.bytes);
            let looked = target.look(left, evaluation.bytes == 0, limits.committed_only);
            evaluation.bytes += looked.len();
            evaluation.is_urgent |= looked.error.is_some() || looked.diverging.is_some();
            evaluation.results.push(looked);
        }
        evaluation
    }

    /// The same error for all partitions.
    pub(super) fn refuse(targets: Vec<Target>, error: ResponseError) -> Self {
        let refused = targets.into_iter().map(|mut target| {
            target.found = Err(error);
            target.look(0, false, false)
        });
        Self {
            results: refused.collect(),
            bytes: 0,
            is_urgent: true,
        }
    }

    /// Whether the client need not wait.
    pub(super) fn is_enough(&self, limits: Limits) -> bool {
        self.is_urgent || self.bytes >= limits.min_bytes
    }
}
