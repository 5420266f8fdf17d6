//! One share-partition's stored state, and the changes of it that are under way.

use std::collections::VecDeque;

use dlog_coordination::WriteId;

use super::{Batches, PartitionState, StateBatch, Summary};
use crate::codec::{NO_COUNT, SnapshotValue, UpdateValue};

/// No start offset was chosen.
pub(super) const NO_START: i64 = -1;

/// What the log says of a share-partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) snapshot_epoch: i32,
    pub(super) state_epoch: i32,
    pub(super) leader_epoch: i32,
    pub(super) start_offset: i64,
    pub(super) delivery_complete_count: i32,
    pub(super) create_timestamp_ms: i64,
    pub(super) write_timestamp_ms: i64,
    pub(super) batches: Batches,
}

impl Stored {
    /// State that was just initialised.
    pub(super) fn initial(
        state_epoch: i32,
        start_offset: i64,
        snapshot_epoch: i32,
        now_ms: i64,
    ) -> Self {
        Self {
            snapshot_epoch,
            state_epoch,
            leader_epoch: 0,
            start_offset,
            delivery_complete_count: if start_offset == NO_START {
                NO_COUNT
            } else {
                0
            },
            create_timestamp_ms: now_ms,
            write_timestamp_ms: now_ms,
            batches: Batches::default(),
        }
    }

    pub(super) fn from_snapshot(value: SnapshotValue) -> Self {
        let mut batches = Batches::default();
        value
            .batches
            .into_iter()
            .for_each(|batch| batches.apply(batch));
        Self {
            snapshot_epoch: value.snapshot_epoch,
            state_epoch: value.state_epoch,
            leader_epoch: value.leader_epoch,
            start_offset: value.start_offset,
            delivery_complete_count: value.delivery_complete_count,
            create_timestamp_ms: value.create_timestamp_ms,
            write_timestamp_ms: value.write_timestamp_ms,
            batches,
        }
    }

    /// What is left when the snapshot before an update is missing.
    pub(super) fn from_update(value: &UpdateValue) -> Self {
        let mut stored = Self::initial(0, value.start_offset, value.snapshot_epoch, 0);
        stored.apply(value);
        stored
    }

    pub(super) fn apply(&mut self, update: &UpdateValue) {
        if update.start_offset != NO_START {
            self.start_offset = update.start_offset;
        }
        if update.leader_epoch != -1 {
            self.leader_epoch = update.leader_epoch;
        }
        self.delivery_complete_count = update.delivery_complete_count;
        update
            .batches
            .iter()
            .for_each(|batch| self.batches.apply(*batch));
        if self.start_offset != NO_START {
            self.batches.prune(self.start_offset);
        }
    }

    pub(super) fn snapshot(&self) -> SnapshotValue {
        SnapshotValue {
            snapshot_epoch: self.snapshot_epoch,
            state_epoch: self.state_epoch,
            leader_epoch: self.leader_epoch,
            start_offset: self.start_offset,
            create_timestamp_ms: self.create_timestamp_ms,
            write_timestamp_ms: self.write_timestamp_ms,
            batches: self.batches.to_vec(),
            delivery_complete_count: self.delivery_complete_count,
        }
    }

    pub(super) fn summary(&self) -> Summary {
        Summary {
            state_epoch: self.state_epoch,
            leader_epoch: self.leader_epoch,
            start_offset: self.start_offset,
            delivery_complete_count: self.delivery_complete_count,
        }
    }

    pub(super) fn state(&self) -> PartitionState {
        PartitionState {
            state_epoch: self.state_epoch,
            leader_epoch: self.leader_epoch,
            start_offset: self.start_offset,
            delivery_complete_count: self.delivery_complete_count,
            batches: self.batches.to_vec(),
        }
    }
}

/// A change on its way to the log.
#[derive(Debug, Clone)]
pub(super) enum Change {
    Snapshot(Box<Stored>),
    Update(UpdateValue),
    Gone,
}

impl Change {
    pub(super) fn apply(&self, state: &mut Option<Stored>) {
        match self {
            Self::Snapshot(stored) => *state = Some((**stored).clone()),
            Self::Update(update) => match state {
                Some(stored) => stored.apply(update),
                None => *state = Some(Stored::from_update(update)),
            },
            Self::Gone => *state = None,
        }
    }
}

/// A share-partition.
#[derive(Debug, Default)]
pub(super) struct Entry {
    /// What the log holds for certain.
    stored: Option<Stored>,
    /// In the order of the log.
    pending: VecDeque<(WriteId, Change)>,
    /// Where it stands once all of these are in the log. `None`: gone, or never there.
    head: Option<Summary>,
    snapshot_epoch: i32,
    /// Updates since the last snapshot, pending ones included.
    pub(super) updates: u32,
    /// Where the last snapshot stands in the log.
    pub(super) snapshot_at: Option<i64>,
}

impl Entry {
    /// Where it stands, changes under way included.
    pub(super) fn head(&self) -> Option<Summary> {
        self.head
    }

    pub(super) fn snapshot_epoch(&self) -> i32 {
        self.snapshot_epoch
    }

    /// Nothing is stored or about to be.
    pub(super) fn is_vacant(&self) -> bool {
        self.stored.is_none() && self.pending.is_empty()
    }

    pub(super) fn stored(&self) -> Option<&Stored> {
        self.stored.as_ref()
    }

    pub(super) fn is_settled(&self) -> bool {
        self.pending.is_empty()
    }

    /// The whole state, changes under way included.
    pub(super) fn ahead(&self) -> Option<Stored> {
        let mut state = self.stored.clone();
        for (_, change) in &self.pending {
            change.apply(&mut state);
        }
        state
    }

    /// A record that was read from the log.
    pub(super) fn load(&mut self, change: &Change, offset: i64) {
        self.count(change);
        if matches!(change, Change::Snapshot(_)) {
            self.snapshot_at = Some(offset);
        }
        change.apply(&mut self.stored);
        self.look_ahead();
    }

    pub(super) fn begin(&mut self, write: WriteId, change: Change) {
        self.count(&change);
        match &change {
            Change::Update(update) => {
                // Cheaper than looking at everything; an update never takes a step back.
                if let Some(head) = &mut self.head {
                    head.leader_epoch = update.leader_epoch;
                    head.start_offset = update.start_offset;
                    head.delivery_complete_count = update.delivery_complete_count;
                }
            }
            Change::Snapshot(stored) => {
                self.head = Some(stored.summary());
                self.snapshot_epoch = stored.snapshot_epoch;
            }
            Change::Gone => self.head = None,
        }
        self.pending.push_back((write, change));
    }

    /// The write ended.
    pub(super) fn end(&mut self, write: WriteId, stored: bool, offset: Option<i64>) {
        let Some(at) = self.pending.iter().position(|(of, _)| *of == write) else {
            return;
        };
        let Some((_, change)) = self.pending.remove(at) else {
            return;
        };
        if !stored {
            self.look_ahead();
            return;
        }
        if matches!(change, Change::Snapshot(_)) {
            self.snapshot_at = offset.or(self.snapshot_at);
        }
        change.apply(&mut self.stored);
    }

    fn count(&mut self, change: &Change) {
        match change {
            Change::Update(_) => self.updates = self.updates.saturating_add(1),
            Change::Snapshot(_) | Change::Gone => self.updates = 0,
        }
    }

    fn look_ahead(&mut self) {
        if self.pending.is_empty() {
            self.head = self.stored.as_ref().map(Stored::summary);
            self.snapshot_epoch = self.stored.as_ref().map_or(0, |s| s.snapshot_epoch);
            return;
        }
        let ahead = self.ahead();
        self.head = ahead.as_ref().map(Stored::summary);
        self.snapshot_epoch = ahead.as_ref().map_or(0, |s| s.snapshot_epoch);
    }
}

/// The batches of a request as they go into an update: laid over one another, and none below the
/// start.
pub(super) fn tidy(batches: &[StateBatch], start_offset: i64) -> Vec<StateBatch> {
    super::combine(&[], batches, start_offset.max(0))
}
