//! One look at a share-partition: read what is next, and acquire of it what is available.
//!
//! Records are not touched: the headers of their batches say which offsets are where.

use std::sync::Arc;

use dlog_share::{Acquire, AcquireMode, Acquired, Span};
use dlog_storage::{AbortedTransaction, BatchSpan, Log, LogSlice, ReadLimit, SliceBytes};
use kafka_protocol::ResponseError;

use super::{Refusal, SharePart};
use crate::error::storage_error_code;
use crate::state::BrokerState;

/// Looks in a row that find nothing but what is done with, before others get their turn.
const MOST_TRIES: usize = 32;

/// Records behind the end from which on a place in the log may not be in memory.
const FAR_BEHIND: i64 = 50_000;

/// What a member wants.
#[derive(Clone, Debug)]
pub struct Take {
    /// The member.
    pub member: Arc<str>,
    /// How the number of records is limited.
    pub mode: AcquireMode,
    /// Records that it takes.
    pub max_records: i64,
    /// Records after which what it got is cut at the next batch.
    pub batch_size: i64,
    /// Bytes to read, except that one batch is always read.
    pub max_bytes: usize,
    /// Whether records of open and aborted transactions are left out.
    pub committed_only: bool,
}

/// What a member got.
#[derive(Clone, Debug)]
pub struct Taken {
    /// Which records are its own.
    pub acquired: Vec<Acquired>,
    /// The batches that have them, and maybe others.
    pub records: SliceBytes,
}

/// What a look found.
#[derive(Clone, Debug)]
pub enum Look {
    /// Records.
    Taken(Taken),
    /// Nothing that can be acquired now.
    Nothing,
    /// Something changed meanwhile: look again.
    Again,
}

/// What was read.
struct Read {
    slice: LogSlice,
    spans: Vec<BatchSpan>,
    aborted: Vec<(i64, i64)>,
}

impl SharePart {
    /// Whether the next read may have to wait for a disk.
    pub fn is_far_behind(self: &Arc<Self>, state: &Arc<BrokerState>) -> bool {
        let next = self.step(state, |core, _, _| core.next_fetch_offset());
        let end = self
            .partition()
            .log()
            .ok()
            .map(|log| log.acknowledged_end());
        matches!((next, end), (Some(next), Some(end)) if end - next > FAR_BEHIND)
    }

    /// Bytes that could be read now, up to `max_bytes`.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn readable_bytes(
        self: &Arc<Self>,
        state: &Arc<BrokerState>,
        take: &Take,
    ) -> Result<usize, Refusal> {
        let log = self.partition().log()?;
        let Some(from) = self.next_offset(state, log) else {
            return Ok(0);
        };
        let slice = log.read_range(from, take.max_bytes, limit_of(take));
        slice
            .map(|slice| slice.len())
            .map_err(|error| storage_error_code(&error).into())
    }

    /// Acquires records.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn take(self: &Arc<Self>, state: &Arc<BrokerState>, take: &Take) -> Result<Look, Refusal> {
        let log = self.partition().log()?;
        for _ in 0..MOST_TRIES {
            let Some(from) = self.next_offset(state, log) else {
                return Ok(Look::Nothing);
            };
            let Some(read) = read(log, from, take)? else {
                return Ok(Look::Nothing);
            };
            let spans: Vec<Span> = read.spans.iter().map(span_of).collect();
            let acquired = self.step(state, |core, limits, now_ms| {
                let request = Acquire {
                    member: &take.member,
                    mode: take.mode,
                    max_records: take.max_records,
                    batch_size: take.batch_size,
                    fetch_offset: from,
                    spans: &spans,
                    aborted: &read.aborted,
                };
                core.acquire(request, limits, now_ms)
            });
            let Some(acquired) = acquired else {
                return Ok(Look::Again);
            };
            if !acquired.is_empty() {
                let records = records_of(&read, &acquired);
                return Ok(Look::Taken(Taken { acquired, records }));
            }
            if self.next_offset(state, log) == Some(from) {
                return Ok(Look::Nothing);
            }
        }
        Ok(Look::Again)
    }

    /// Where to read; `None` when nothing may be acquired now.
    fn next_offset(self: &Arc<Self>, state: &Arc<BrokerState>, log: &Log) -> Option<i64> {
        let log_start = log.log_start_offset();
        let next = self.step(state, |core, limits, _| {
            core.raise_start(log_start);
            core.can_acquire(limits).then(|| core.next_fetch_offset())
        });
        next.flatten()
    }
}

fn limit_of(take: &Take) -> ReadLimit {
    if take.committed_only {
        ReadLimit::Stable
    } else {
        ReadLimit::Acknowledged
    }
}

fn read(log: &Log, from: i64, take: &Take) -> Result<Option<Read>, Refusal> {
    let slice = match log.read_range(from, take.max_bytes, limit_of(take)) {
        Ok(slice) => slice,
        // The log was cut meanwhile, which the next look finds.
        Err(dlog_storage::StorageError::OffsetOutOfRange { .. }) => return Ok(None),
        Err(error) => return Err(storage_error_code(&error).into()),
    };
    if slice.is_empty() {
        return Ok(None);
    }
    let until = from.saturating_add(take.max_records.max(1) - 1);
    let spans = slice.batches(|span| span.header.last_offset() >= until);
    let spans = spans.map_err(|error| {
        tracing::error!(dir = %log.dir().display(), from, %error, "batches cannot be read");
        Refusal::from(ResponseError::KafkaStorageError)
    })?;
    let Some(last) = spans.last() else {
        return Ok(None);
    };
    let aborted = if take.committed_only {
        let ended = log.aborted_transactions(from, last.header.next_offset());
        let ended = ended.map_err(|error| Refusal::from(storage_error_code(&error)))?;
        aborted_spans(&spans, &ended)
    } else {
        Vec::new()
    };
    Ok(Some(Read {
        slice,
        spans,
        aborted,
    }))
}

fn span_of(span: &BatchSpan) -> Span {
    Span {
        base_offset: span.header.base_offset,
        last_offset: span.header.last_offset(),
    }
}

/// The batches that belong to an aborted transaction.
fn aborted_spans(spans: &[BatchSpan], ended: &[AbortedTransaction]) -> Vec<(i64, i64)> {
    let is_aborted = |span: &&BatchSpan| {
        let header = &span.header;
        header.is_transactional()
            && !header.is_control()
            && ended.iter().any(|ended| {
                ended.producer_id == header.producer_id
                    && (ended.first_offset..=ended.last_offset).contains(&header.base_offset)
            })
    };
    let aborted = spans.iter().filter(is_aborted);
    aborted
        .map(|span| (span.header.base_offset, span.header.last_offset()))
        .collect()
}

/// The part of what was read that holds the acquired records.
fn records_of(read: &Read, acquired: &[Acquired]) -> SliceBytes {
    let (Some(first), Some(last)) = (acquired.first(), acquired.last()) else {
        return SliceBytes::Empty;
    };
    let begins = read
        .spans
        .partition_point(|span| span.header.last_offset() < first.first);
    let ends = read
        .spans
        .partition_point(|span| span.header.base_offset <= last.last);
    match (read.spans.get(begins), read.spans[..ends].last()) {
        (Some(begin), Some(end)) if end.end() > begin.position => {
            read.slice.part(begin.position, end.end() - begin.position)
        }
        _ => SliceBytes::Empty,
    }
}
