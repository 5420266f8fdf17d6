//! What consumers say of the records that they hold.
//!
//! All acknowledgements of one request for a partition take effect, or none of them.

use thiserror::Error;

use super::release::after_release;
use super::runs::{End, Fate, Lock, Run};
use super::{ShareLimits, SharePartition, StateWrite, note};
use crate::state::{Delivered, DeliveryState, StateBatch};

/// What becomes of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AcknowledgeKind {
    /// There is no record at this offset.
    Gap,
    /// It was processed.
    Accept,
    /// It was not; somebody else may try.
    Release,
    /// It cannot be processed; nobody tries again.
    Reject,
    /// Its processing takes longer (KIP-1222).
    Renew,
}

impl AcknowledgeKind {
    /// The kind with this number on the wire.
    pub fn from_id(id: i8) -> Option<Self> {
        Some(match id {
            0 => Self::Gap,
            1 => Self::Accept,
            2 => Self::Release,
            3 => Self::Reject,
            4 => Self::Renew,
            _ => return None,
        })
    }
}

/// Acknowledgements of offsets that follow one another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcknowledgementBatch {
    /// First offset.
    pub first: i64,
    /// Last offset, inclusive.
    pub last: i64,
    /// One kind for all offsets, or one for each.
    pub kinds: Vec<i8>,
}

/// Why acknowledgements are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum AcknowledgeError {
    /// The request contradicts itself, or names what was never handed out.
    #[error("{0}")]
    InvalidRequest(&'static str),
    /// The records are not held by this member any more.
    #[error("{0}")]
    InvalidRecordState(&'static str),
}

const NOT_FOUND: &str =
    "Batch record not found. The request batch offsets are not found in the cache.";
const FIRST_PAST: &str =
    "Batch record not found. The first offset in request is past acquired records.";
const LAST_PAST: &str =
    "Batch record not found. The last offset in request is past acquired records.";
const NOT_ACQUIRED: &str =
    "The batch cannot be acknowledged. The batch is not in the acquired state.";
const UNDER_WAY: &str =
    "The record state is invalid. The acknowledgement of delivery could not be completed.";
const NOT_OWNER: &str = "Member is not the owner of batch record";
const NO_RENEWAL: &str = "Renewing acquisition locks is not enabled for the group.";

/// Checks what can be checked without looking at the partition. `may_renew`: the version of the
/// request knows renewals, and it says that it has some.
///
/// # Errors
/// [`AcknowledgeError::InvalidRequest`].
pub fn check_acknowledgements(
    batches: &[AcknowledgementBatch],
    may_renew: bool,
) -> Result<(), AcknowledgeError> {
    let wrong = |why| Err(AcknowledgeError::InvalidRequest(why));
    let mut previous_last = -1;
    for batch in batches {
        if batch.first > batch.last {
            return wrong("The first offset of a batch is behind its last.");
        }
        if batch.first < previous_last {
            return wrong("The batches are not in the order of their offsets.");
        }
        let offsets = i128::from(batch.last) - i128::from(batch.first) + 1;
        let kinds = batch.kinds.len();
        if kinds == 0 || (kinds > 1 && kinds as i128 != offsets) {
            return wrong("A batch needs one acknowledge type, or one for each offset.");
        }
        for &kind in &batch.kinds {
            match AcknowledgeKind::from_id(kind) {
                None => return wrong("Unknown acknowledge type."),
                Some(AcknowledgeKind::Renew) if !may_renew => {
                    return wrong("Renew acknowledgements need a request that announces them.");
                }
                Some(_) => {}
            }
        }
        previous_last = batch.last;
    }
    Ok(())
}

/// A stretch of offsets with one kind.
#[derive(Debug, Clone, Copy)]
struct Stretch {
    first: i64,
    last: i64,
    kind: AcknowledgeKind,
}

impl SharePartition {
    /// Takes the acknowledgements of `member`. What must be stored is returned; its end is reported
    /// with [`persisted`](Self::persisted) and the same `write`, and only then they count. `None`:
    /// there is nothing to store.
    ///
    /// # Errors
    /// [`AcknowledgeError`], with nothing changed.
    pub fn acknowledge(
        &mut self,
        member: &str,
        batches: &[AcknowledgementBatch],
        limits: &ShareLimits,
        write: u64,
        now_ms: i64,
    ) -> Result<Option<StateWrite>, AcknowledgeError> {
        let mut stretches = Vec::new();
        for batch in batches {
            self.check(member, batch, limits, &mut stretches)?;
        }
        // Batches may touch by one offset, which then is acknowledged twice.
        if stretches
            .windows(2)
            .any(|pair| pair[1].first <= pair[0].last)
        {
            return Err(AcknowledgeError::InvalidRecordState(NOT_ACQUIRED));
        }
        let mut changed = Vec::new();
        for stretch in stretches {
            self.apply(stretch, limits, write, now_ms, &mut changed);
        }
        let ranges: Vec<_> = changed.iter().map(|b| (b.first, b.last)).collect();
        if !ranges.is_empty() {
            self.open.insert(write, ranges);
        }
        Ok(self.state_write(changed))
    }

    /// Checks a batch against what the member holds, and takes it apart.
    fn check(
        &self,
        member: &str,
        batch: &AcknowledgementBatch,
        limits: &ShareLimits,
        stretches: &mut Vec<Stretch>,
    ) -> Result<(), AcknowledgeError> {
        use AcknowledgeError::{InvalidRecordState, InvalidRequest};
        if batch.last < self.start {
            // The log begins behind them, or all of them are done with.
            return Ok(());
        }
        if self.runs.is_empty() {
            return Err(InvalidRecordState(NOT_FOUND));
        }
        if batch.first >= self.next {
            return Err(InvalidRequest(FIRST_PAST));
        }
        if batch.last >= self.next {
            return Err(InvalidRequest(LAST_PAST));
        }
        let first = batch.first.max(self.start);
        for (_, run) in self.runs.touching(first, batch.last) {
            match &run.fate {
                Fate::Acquired(lock) if *lock.member == *member => {}
                Fate::Acquired(_) => return Err(InvalidRecordState(NOT_OWNER)),
                Fate::Ending { .. } => return Err(InvalidRecordState(UNDER_WAY)),
                Fate::Available | Fate::Done => return Err(InvalidRecordState(NOT_ACQUIRED)),
            }
        }
        let known = stretches.len();
        take_apart(batch, first, stretches)?;
        let renews = |stretch: &Stretch| stretch.kind == AcknowledgeKind::Renew;
        if !limits.may_renew && stretches[known..].iter().any(renews) {
            return Err(InvalidRecordState(NO_RENEWAL));
        }
        Ok(())
    }

    fn apply(
        &mut self,
        stretch: Stretch,
        limits: &ShareLimits,
        write: u64,
        now_ms: i64,
        changed: &mut Vec<StateBatch>,
    ) {
        let Stretch { first, last, kind } = stretch;
        let mut renewed = false;
        self.runs.update(first, last, |at, run| {
            let Fate::Acquired(lock) = &mut run.fate else {
                return;
            };
            if kind == AcknowledgeKind::Renew {
                lock.until_ms = now_ms.saturating_add(limits.lock_ms);
                renewed = true;
                return;
            }
            let lock = lock.clone();
            let state = state_after(kind, run, limits);
            let delivered = Delivered {
                state,
                count: run.deliveries,
            };
            note(changed, at, run.last, delivered);
            end(run, lock, state, write);
        });
        if renewed {
            let until_ms = now_ms.saturating_add(limits.lock_ms);
            self.earliest_lock_ms = self.earliest_lock_ms.min(until_ms);
        }
    }
}

/// The run waits for its end to be stored.
pub(super) fn end(run: &mut Run, lock: Lock, state: DeliveryState, write: u64) {
    let end = match state {
        DeliveryState::Available => End::Available,
        DeliveryState::Acknowledged | DeliveryState::Archived => End::Done,
    };
    run.fate = Fate::Ending { lock, end, write };
}

fn state_after(kind: AcknowledgeKind, run: &Run, limits: &ShareLimits) -> DeliveryState {
    match kind {
        AcknowledgeKind::Accept => DeliveryState::Acknowledged,
        AcknowledgeKind::Release => after_release(run, limits),
        AcknowledgeKind::Gap | AcknowledgeKind::Reject | AcknowledgeKind::Renew => {
            DeliveryState::Archived
        }
    }
}

/// Stretches of one kind from `from` on.
fn take_apart(
    batch: &AcknowledgementBatch,
    from: i64,
    stretches: &mut Vec<Stretch>,
) -> Result<(), AcknowledgeError> {
    let kind_of = |id: i8| {
        AcknowledgeKind::from_id(id).ok_or(AcknowledgeError::InvalidRequest(
            "Unknown acknowledge type.",
        ))
    };
    if let [kind] = batch.kinds.as_slice() {
        stretches.push(Stretch {
            first: from,
            last: batch.last,
            kind: kind_of(*kind)?,
        });
        return Ok(());
    }
    let mut at = batch.first;
    for same in batch.kinds.chunk_by(|a, b| a == b) {
        let behind = at + same.len() as i64;
        if behind > from {
            stretches.push(Stretch {
                first: at.max(from),
                last: behind - 1,
                kind: kind_of(same[0])?,
            });
        }
        at = behind;
    }
    Ok(())
}
