//! The coordinator: requests in, records and answers out.

use std::collections::BTreeMap;

use dlog_coordination::{
    Action, LogEntry, PersistError, Phase, Record, StateMachine, Token, WriteId,
};
use uuid::Uuid;

use super::entry::{Change, Entry, NO_START, Stored, tidy};
use super::{Effect, PartitionState, Reply, ShareKey, StateConfig, StateError, Summary};
use crate::codec::{self, UpdateValue};
use crate::partition::StateWrite;

/// Longest group id that a key holds.
const MAX_GROUP_BYTES: usize = i16::MAX as usize;

/// Who waits for a write, and what is said when it succeeds.
#[derive(Debug)]
enum Waits {
    Nobody,
    Done(Token),
    State(Token, Box<PartitionState>),
}

#[derive(Debug)]
struct OpenWrite {
    keys: Vec<ShareKey>,
    waits: Waits,
    /// Where its first record stands.
    offset: Option<i64>,
}

/// The state of the share-partitions of one partition of `__share_group_state`.
#[derive(Debug)]
pub struct StateCoordinator {
    config: StateConfig,
    phase: Phase,
    /// Ordered, so that the same inputs give the same effects.
    entries: BTreeMap<ShareKey, Entry>,
    open: BTreeMap<WriteId, OpenWrite>,
    last_write: u64,
    next_sweep_ms: Option<i64>,
    /// What is before this offset of the log was asked to be deleted.
    pruned_before: i64,
}

impl StateCoordinator {
    /// A coordinator that has still to be told what the log contains.
    pub fn new(config: StateConfig) -> Self {
        Self {
            config,
            phase: Phase::Loading,
            entries: BTreeMap::new(),
            open: BTreeMap::new(),
            last_write: 0,
            next_sweep_ms: None,
            pruned_before: 0,
        }
    }

    /// Replaces the settings.
    pub fn set_config(&mut self, config: StateConfig) {
        self.config = config;
    }

    /// How many share-partitions there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn is_loading(&self) -> bool {
        self.phase == Phase::Loading
    }

    pub(super) fn load(&mut self, key: &ShareKey, change: &Change, offset: i64) {
        let entry = self.entries.entry(key.clone()).or_default();
        entry.load(change, offset);
        if entry.is_vacant() {
            self.entries.remove(key);
        }
    }

    fn sweep_interval_ms(&self) -> i64 {
        self.config.cold_snapshot_interval_ms.max(1)
    }

    fn check(&self, key: &ShareKey, exists: bool) -> Result<(), StateError> {
        match self.phase {
            Phase::Loading => return Err(StateError::CoordinatorLoadInProgress),
            Phase::Resigned => return Err(StateError::NotCoordinator),
            Phase::Active => {}
        }
        if key.group.is_empty() || key.group.len() > MAX_GROUP_BYTES {
            return Err(StateError::InvalidRequest("The group id is not valid."));
        }
        if key.partition < 0 {
            return Err(StateError::InvalidRequest(
                "The partition id cannot be a negative number.",
            ));
        }
        if exists {
            Ok(())
        } else {
            Err(StateError::UnknownTopicOrPartition)
        }
    }

    /// Begins the state of a share-partition anew. `exists`: whether there is such a partition.
    pub fn initialize(
        &mut self,
        now_ms: i64,
        key: &ShareKey,
        exists: bool,
        (state_epoch, start_offset): (i32, i64),
        token: Token,
        out: &mut Vec<Effect>,
    ) {
        let checked = self.check(key, true).and_then(|()| {
            if state_epoch < 0 {
                return Err(StateError::InvalidRequest(
                    "The state epoch cannot be a negative number.",
                ));
            }
            match self.head(key) {
                Some(head) if head.state_epoch > state_epoch => Err(StateError::FencedStateEpoch),
                _ => self.check(key, exists),
            }
        });
        if let Err(error) = checked {
            return reply(out, token, Reply::Done(Err(error)));
        }
        let known = self.entries.get(key).filter(|entry| entry.head().is_some());
        let snapshot_epoch = known.map_or(0, |entry| entry.snapshot_epoch().saturating_add(1));
        let stored = Stored::initial(
            state_epoch,
            start_offset.max(NO_START),
            snapshot_epoch,
            now_ms,
        );
        self.write_changes(
            vec![(key.clone(), Change::Snapshot(Box::new(stored)))],
            Waits::Done(token),
            out,
        );
    }

    /// Reads the state for the leader with this epoch, which fences those before it.
    pub fn read(
        &mut self,
        now_ms: i64,
        key: &ShareKey,
        exists: bool,
        leader_epoch: i32,
        token: Token,
        out: &mut Vec<Effect>,
    ) {
        let checked = self.check(key, true).and_then(|()| {
            if leader_epoch < 0 {
                return Err(StateError::InvalidRequest(
                    "The leader epoch cannot be a negative number.",
                ));
            }
            let head = self.head(key).ok_or(StateError::InvalidRequest(
                "Read operation on uninitialized share partition not allowed.",
            ))?;
            if head.leader_epoch > leader_epoch {
                return Err(StateError::FencedLeaderEpoch);
            }
            self.check(key, exists)?;
            Ok(head)
        });
        let head = match checked {
            Ok(head) => head,
            Err(error) => return reply(out, token, Reply::State(Err(error))),
        };
        let Some(stored) = self.entries.get(key).and_then(Entry::ahead) else {
            return reply(out, token, Reply::State(Err(StateError::Unknown)));
        };
        if head.leader_epoch == leader_epoch {
            return reply(out, token, Reply::State(Ok(stored.state())));
        }
        let mut state = stored.state();
        state.leader_epoch = leader_epoch;
        let write = StateWrite {
            start_offset: head.start_offset,
            delivery_complete_count: head.delivery_complete_count,
            batches: Vec::new(),
        };
        let change = self.change_of(now_ms, key, head, leader_epoch, &write);
        let waits = Waits::State(token, Box::new(state));
        self.write_changes(vec![(key.clone(), change)], waits, out);
    }

    /// Stores what a share-partition's leader says; with the key, whether the partition exists.
    pub fn write(
        &mut self,
        now_ms: i64,
        (key, exists): (&ShareKey, bool),
        (state_epoch, leader_epoch): (i32, i32),
        write: &StateWrite,
        token: Token,
        out: &mut Vec<Effect>,
    ) {
        let checked = self.check(key, true).and_then(|()| {
            if leader_epoch < 0 {
                return Err(StateError::InvalidRequest(
                    "The leader epoch cannot be a negative number.",
                ));
            }
            if state_epoch < 0 {
                return Err(StateError::InvalidRequest(
                    "The state epoch cannot be a negative number.",
                ));
            }
            let head = self.head(key).ok_or(StateError::InvalidRequest(
                "Write operation on uninitialized share partition not allowed.",
            ))?;
            if head.leader_epoch > leader_epoch {
                return Err(StateError::FencedLeaderEpoch);
            }
            if head.state_epoch > state_epoch {
                return Err(StateError::FencedStateEpoch);
            }
            self.check(key, exists)?;
            Ok(head)
        });
        let head = match checked {
            Ok(head) => head,
            Err(error) => return reply(out, token, Reply::Done(Err(error))),
        };
        let change = self.change_of(now_ms, key, head, head.leader_epoch, write);
        self.write_changes(vec![(key.clone(), change)], Waits::Done(token), out);
    }

    /// Forgets a share-partition; one that is not known is gone already.
    pub fn delete(&mut self, key: &ShareKey, exists: bool, token: Token, out: &mut Vec<Effect>) {
        if let Err(error) = self.check(key, exists) {
            return reply(out, token, Reply::Done(Err(error)));
        }
        if self.head(key).is_none() {
            return reply(out, token, Reply::Done(Ok(())));
        }
        self.write_changes(vec![(key.clone(), Change::Gone)], Waits::Done(token), out);
    }

    /// The state without its batches.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn summary(&self, key: &ShareKey, exists: bool) -> Result<Summary, StateError> {
        self.check(key, exists)?;
        Ok(self.head(key).unwrap_or(Summary {
            state_epoch: 0,
            leader_epoch: 0,
            start_offset: NO_START,
            delivery_complete_count: codec::NO_COUNT,
        }))
    }

    /// These topics are deleted: what was stored of them goes too.
    pub fn topics_deleted(&mut self, is_gone: impl Fn(Uuid) -> bool, out: &mut Vec<Effect>) {
        if self.phase != Phase::Active {
            return;
        }
        let gone = self
            .entries
            .iter()
            .filter(|(key, entry)| entry.head().is_some() && is_gone(key.topic_id));
        let changes: Vec<_> = gone.map(|(key, _)| (key.clone(), Change::Gone)).collect();
        if !changes.is_empty() {
            self.write_changes(changes, Waits::Nobody, out);
        }
    }

    /// Nothing before this offset of the log is needed any more; `None` when that cannot be said.
    pub fn redundant_before(&self) -> Option<i64> {
        let snapshots = self.entries.values().map(|entry| entry.snapshot_at);
        snapshots.min().flatten()
    }

    /// This broker no longer leads the partition, or stops: who waits is told, the state is dropped.
    pub fn resign(&mut self, out: &mut Vec<Effect>) {
        self.phase = Phase::Resigned;
        self.entries.clear();
        self.next_sweep_ms = None;
        for (_, open) in std::mem::take(&mut self.open) {
            answer(open.waits, Err(StateError::NotCoordinator), out);
        }
    }

    /// New snapshots of what was not written for `interval_ms`.
    fn cold(&self, now_ms: i64, interval_ms: i64) -> Vec<(ShareKey, Change)> {
        let is_cold = |stored: &Stored| stored.create_timestamp_ms != stored.write_timestamp_ms;
        let are_all_cold = self
            .entries
            .values()
            .all(|entry| entry.updates == 0 && entry.stored().is_some_and(is_cold));
        if are_all_cold {
            return Vec::new();
        }
        let mut changes = Vec::new();
        for (key, entry) in &self.entries {
            let Some(stored) = entry.stored().filter(|_| entry.is_settled()) else {
                continue;
            };
            if now_ms.saturating_sub(stored.write_timestamp_ms) >= interval_ms {
                let mut stored = stored.clone();
                stored.snapshot_epoch = stored.snapshot_epoch.saturating_add(1);
                stored.write_timestamp_ms = now_ms;
                changes.push((key.clone(), Change::Snapshot(Box::new(stored))));
            }
        }
        changes
    }

    fn head(&self, key: &ShareKey) -> Option<Summary> {
        self.entries.get(key).and_then(Entry::head)
    }

    /// The update that a write is, or the snapshot when it is time for one. What is under way is part
    /// of a snapshot: a log whose flush failed takes nothing more, so it cannot be there without it.
    fn change_of(
        &self,
        now_ms: i64,
        key: &ShareKey,
        head: Summary,
        leader_epoch: i32,
        write: &StateWrite,
    ) -> Change {
        // A leader that has not heard of the newest start yet must not take it back.
        let start_offset = write.start_offset.max(head.start_offset);
        let delivery_complete_count = match write.start_offset.cmp(&head.start_offset) {
            std::cmp::Ordering::Greater => write.delivery_complete_count,
            std::cmp::Ordering::Equal => write
                .delivery_complete_count
                .max(head.delivery_complete_count),
            std::cmp::Ordering::Less => head.delivery_complete_count,
        };
        let entry = self.entries.get(key);
        let snapshot_epoch = entry.map_or(0, Entry::snapshot_epoch);
        let update = UpdateValue {
            snapshot_epoch,
            leader_epoch,
            start_offset,
            batches: tidy(&write.batches, start_offset),
            delivery_complete_count,
        };
        let is_due = entry.is_some_and(|e| e.updates >= self.config.updates_per_snapshot);
        match entry.and_then(Entry::ahead).filter(|_| is_due) {
            Some(mut stored) => {
                stored.apply(&update);
                stored.snapshot_epoch = snapshot_epoch.saturating_add(1);
                stored.create_timestamp_ms = now_ms;
                stored.write_timestamp_ms = now_ms;
                Change::Snapshot(Box::new(stored))
            }
            None => Change::Update(update),
        }
    }

    fn write_changes(
        &mut self,
        changes: Vec<(ShareKey, Change)>,
        waits: Waits,
        out: &mut Vec<Effect>,
    ) {
        let encoded: Result<Vec<Record>, _> = changes
            .iter()
            .map(|(key, change)| record(key, change))
            .collect();
        let Ok(records) = encoded else {
            // Group ids were measured, so only a snapshot of billions of batches comes here.
            return answer(waits, Err(StateError::Unknown), out);
        };
        self.last_write += 1;
        let write = WriteId(self.last_write);
        let mut keys = Vec::with_capacity(changes.len());
        for (key, change) in changes {
            self.entries
                .entry(key.clone())
                .or_default()
                .begin(write, change);
            keys.push(key);
        }
        let open = OpenWrite {
            keys,
            waits,
            offset: None,
        };
        self.open.insert(write, open);
        out.push(Effect::Persist { write, records });
    }
}

impl StateMachine for StateCoordinator {
    type Reply = Reply;
    type Work = i64;
    type Effect = Effect;

    fn finish_loading(&mut self, now_ms: i64, _: &mut Vec<Effect>) {
        if self.phase == Phase::Loading {
            self.phase = Phase::Active;
            self.next_sweep_ms = Some(now_ms.saturating_add(self.sweep_interval_ms()));
        }
    }

    fn next_deadline_ms(&self) -> Option<i64> {
        self.next_sweep_ms
    }

    /// Puts state that was not written for long into new snapshots, unless that was done with all of
    /// it already, and has the log deleted before the oldest snapshot.
    fn tick(&mut self, now_ms: i64, out: &mut Vec<Effect>) {
        if self.phase != Phase::Active || self.next_sweep_ms.is_none_or(|due| due > now_ms) {
            return;
        }
        let interval_ms = self.sweep_interval_ms();
        self.next_sweep_ms = Some(now_ms.saturating_add(interval_ms));
        if let Some(before) = self.redundant_before()
            && before > self.pruned_before
        {
            self.pruned_before = before;
            out.push(Effect::Prune { before });
        }
        // Each is a write of its own: records must fit into batches, and one failure is not all.
        for change in self.cold(now_ms, interval_ms) {
            self.write_changes(vec![change], Waits::Nobody, out);
        }
    }

    fn appended(&mut self, write: WriteId, first_offset: i64) {
        if let Some(open) = self.open.get_mut(&write) {
            open.offset = Some(first_offset);
        }
    }

    fn persisted(
        &mut self,
        _: i64,
        write: WriteId,
        result: Result<(), PersistError>,
        out: &mut Vec<Effect>,
    ) {
        let Some(open) = self.open.remove(&write) else {
            return;
        };
        for (at, key) in (0..).zip(&open.keys) {
            if let Some(entry) = self.entries.get_mut(key) {
                let offset = open.offset.map(|first: i64| first.saturating_add(at));
                entry.end(write, result.is_ok(), offset);
                if entry.is_vacant() {
                    self.entries.remove(key);
                }
            }
        }
        answer(open.waits, result.map_err(StateError::from), out);
    }
}

impl From<Effect> for Action<Reply, i64> {
    fn from(effect: Effect) -> Self {
        match effect {
            Effect::Reply { token, reply } => Self::Reply { token, reply },
            Effect::Persist { write, records } => Self::Append {
                write,
                entry: LogEntry::Records(records),
            },
            Effect::Prune { before } => Self::Work(before),
        }
    }
}

fn record(key: &ShareKey, change: &Change) -> Result<Record, dlog_coordination::CodecError> {
    Ok(match change {
        Change::Snapshot(stored) => Record {
            key: codec::encode_snapshot_key(key)?,
            value: Some(stored.snapshot().encode()?),
        },
        Change::Update(update) => Record {
            key: codec::encode_update_key(key)?,
            value: Some(update.encode()?),
        },
        Change::Gone => Record {
            key: codec::encode_snapshot_key(key)?,
            value: None,
        },
    })
}

fn answer(waits: Waits, result: Result<(), StateError>, out: &mut Vec<Effect>) {
    match waits {
        Waits::Nobody => {}
        Waits::Done(token) => reply(out, token, Reply::Done(result)),
        Waits::State(token, state) => reply(out, token, Reply::State(result.map(|()| *state))),
    }
}

fn reply(out: &mut Vec<Effect>, token: Token, reply: Reply) {
    out.push(Effect::Reply { token, reply });
}
