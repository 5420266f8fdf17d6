//! The coordinator: a map of transactional ids, their deadlines, and the writes under way.

mod add;
mod admin;
mod end;
mod expiry;
mod init;
mod load;
mod markers;
mod writes;

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use dlog_coordination::{Action, Deadlines, LogEntry, Phase, StateMachine, Sweep};

use crate::api::{Effect, Markers, MarkersId, Record, Reply, Token, TransactionCounts, WriteId};
use crate::codec::{self, TopicPartitions, TransactionValue};
use crate::config::TransactionConfig;
use crate::error::{PersistError, TransactionError};
use crate::metadata::{Metadata, TransactionState};
use crate::step::{Entry, OpenWrite, Then, Writes};

pub use load::Applied;

/// Names that fit into every version of the records.
const MAX_NAME_BYTES: usize = i16::MAX as usize;
/// Waits between retries double so often, if the settings let them.
const MAX_DOUBLINGS: u32 = 20;
/// More ids are asked for when fewer are left.
const LOW_PRODUCER_IDS: u64 = 10;

/// The transactional ids of one partition of `__transaction_state`. See the crate's documentation
/// for how it is driven.
#[derive(Debug)]
pub struct TransactionCoordinator {
    config: TransactionConfig,
    epoch: i32,
    phase: Phase,
    /// Ordered, so that the same inputs give the same effects in the same order.
    entries: BTreeMap<Arc<str>, Entry>,
    /// `Entry::filed_ms` of those that have one.
    deadlines: Deadlines,
    writes: Writes,
    markers: BTreeMap<MarkersId, Arc<str>>,
    last_markers: u64,
    producer_ids: VecDeque<Range<i64>>,
    asked_for_ids: bool,
    sweep: Sweep,
    counts: TransactionCounts,
}

/// What a transaction coordinator has done for it beside answers and writes.
#[derive(Debug)]
pub enum Work {
    /// See [`Effect::WriteMarkers`].
    WriteMarkers(Markers),
    /// See [`Effect::NeedProducerIds`].
    NeedProducerIds,
    /// See [`Effect::Ended`].
    Ended {
        /// Whose transaction it was.
        transactional_id: Arc<str>,
    },
}

impl StateMachine for TransactionCoordinator {
    type Reply = Reply;
    type Work = Work;
    type Effect = Effect;

    fn finish_loading(&mut self, now_ms: i64, out: &mut Vec<Effect>) {
        self.finish_loading(now_ms, out);
    }

    fn next_deadline_ms(&self) -> Option<i64> {
        self.next_deadline_ms()
    }

    fn tick(&mut self, now_ms: i64, out: &mut Vec<Effect>) {
        self.tick(now_ms, out);
    }

    fn persisted(
        &mut self,
        now_ms: i64,
        write: WriteId,
        result: Result<(), PersistError>,
        out: &mut Vec<Effect>,
    ) {
        self.persisted(now_ms, write, result, out);
    }
}

impl From<Effect> for Action<Reply, Work> {
    fn from(effect: Effect) -> Self {
        match effect {
            Effect::Reply { token, reply } => Self::Reply { token, reply },
            Effect::Persist { write, records } => Self::Append {
                write,
                entry: LogEntry::Records(records),
            },
            Effect::WriteMarkers(markers) => Self::Work(Work::WriteMarkers(markers)),
            Effect::NeedProducerIds => Self::Work(Work::NeedProducerIds),
            Effect::Ended { transactional_id } => Self::Work(Work::Ended { transactional_id }),
        }
    }
}

impl TransactionCoordinator {
    /// A coordinator that has still to be told what the log contains. `epoch` is the leader epoch
    /// of its partition: markers carry it.
    pub fn new(config: TransactionConfig, epoch: i32) -> Self {
        Self {
            config,
            epoch,
            phase: Phase::Loading,
            entries: BTreeMap::new(),
            deadlines: Deadlines::default(),
            writes: Writes::default(),
            markers: BTreeMap::new(),
            last_markers: 0,
            producer_ids: VecDeque::new(),
            asked_for_ids: false,
            sweep: Sweep::default(),
            counts: TransactionCounts::default(),
        }
    }

    /// The settings in force.
    pub fn config(&self) -> &TransactionConfig {
        &self.config
    }

    /// Replaces the settings; they apply to what happens from now on.
    pub fn set_config(&mut self, config: TransactionConfig) {
        self.config = config;
    }

    /// How many transactional ids there are.
    pub fn id_count(&self) -> usize {
        self.entries.len()
    }

    /// How many transactions there are and were.
    pub fn counts(&self) -> TransactionCounts {
        self.counts
    }

    /// How many producer ids are at hand.
    pub fn producer_ids_left(&self) -> u64 {
        let ranges = self.producer_ids.iter();
        ranges.map(|ids| ids.end.abs_diff(ids.start)).sum()
    }

    /// Producer ids that nobody has had, for the requests that need one.
    pub fn add_producer_ids(&mut self, ids: Range<i64>) {
        self.asked_for_ids = false;
        if ids.start >= 0 && !ids.is_empty() {
            self.producer_ids.push_back(ids);
        }
    }

    /// A fresh producer id. Without one the client is told what Kafka tells it: try again.
    fn take_producer_id(&mut self, out: &mut Vec<Effect>) -> Result<i64, TransactionError> {
        if self.producer_ids_left() <= LOW_PRODUCER_IDS && !self.asked_for_ids {
            self.asked_for_ids = true;
            out.push(Effect::NeedProducerIds);
        }
        let first = self.producer_ids.front_mut().and_then(Iterator::next);
        if self.producer_ids.front().is_some_and(Range::is_empty) {
            self.producer_ids.pop_front();
        }
        first.ok_or(TransactionError::CoordinatorLoadInProgress)
    }

    fn check_active(&self) -> Result<(), TransactionError> {
        match self.phase {
            Phase::Active => Ok(()),
            Phase::Loading => Err(TransactionError::CoordinatorLoadInProgress),
            Phase::Resigned => Err(TransactionError::NotCoordinator),
        }
    }

    /// What every request has to fulfil.
    fn check_request(&self, id: &str) -> Result<(), TransactionError> {
        if id.is_empty() || id.len() > MAX_NAME_BYTES {
            return Err(TransactionError::InvalidRequest);
        }
        self.check_active()
    }

    /// When [`tick`](Self::tick) must be called next, Unix ms.
    pub fn next_deadline_ms(&self) -> Option<i64> {
        if self.phase != Phase::Active {
            return None;
        }
        let entry = self.deadlines.first_ms();
        entry.into_iter().chain(self.sweep.due_ms()).min()
    }

    /// Acts on what time has brought: transactions that took too long, work to be tried again, ids
    /// to expire.
    pub fn tick(&mut self, now_ms: i64, out: &mut Vec<Effect>) {
        if self.phase != Phase::Active {
            return;
        }
        for id in self.deadlines.take_due(now_ms) {
            let Some(entry) = self.entries.get_mut(&id) else {
                continue;
            };
            entry.filed_ms = None;
            entry.retry_at_ms = None;
            if entry.now.state.is_prepared() {
                self.go_on_ending(now_ms, &id, out);
            } else if self.fence(now_ms, &id, None, out).is_err() {
                // No producer id at hand, which only the last epoch needs.
                self.retry_later(now_ms, &id);
            }
            self.file(&id);
        }
        self.sweep_expired(now_ms, out);
    }

    fn retry_later(&mut self, now_ms: i64, id: &str) {
        let first_ms = self.config.retry_backoff_ms.max(1);
        let most_ms = self.config.retry_backoff_max_ms.max(first_ms);
        if let Some(entry) = self.entries.get_mut(id) {
            // Twice as long each time, until something succeeds.
            let doubled_ms = first_ms.saturating_mul(1 << entry.retries.min(MAX_DOUBLINGS));
            entry.retries = entry.retries.saturating_add(1);
            entry.retry_at_ms = Some(now_ms.saturating_add(doubled_ms.min(most_ms)));
        }
    }

    /// Files the entry under its deadline.
    fn file(&mut self, id: &str) {
        let Some((key, entry)) = self.entries.get_key_value(id) else {
            return;
        };
        let (key, before, after) = (key.clone(), entry.filed_ms, entry.deadline_ms());
        if before == after {
            return;
        }
        if let Some(before) = before {
            self.deadlines.remove(before, key.clone());
        }
        if let Some(after) = after {
            self.deadlines.add(after, key);
        }
        if let Some(entry) = self.entries.get_mut(id) {
            entry.filed_ms = after;
        }
    }

    /// Sends `next` on its way to the log.
    fn change(&mut self, id: &str, next: Metadata, then: Then, out: &mut Vec<Effect>) {
        let Some((key, _)) = self.entries.get_key_value(id) else {
            return;
        };
        let id = key.clone();
        let record = Record {
            key: key_of(&id),
            value: Some(
                value_of(&next)
                    .encode(self.value_version())
                    .expect(NAMES_FIT),
            ),
        };
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.pending = true;
        }
        let open = OpenWrite::Change {
            id: id.clone(),
            next: Box::new(next),
            then,
        };
        self.persist(vec![record], open, out);
        self.file(&id);
    }

    fn persist(&mut self, records: Vec<Record>, open: OpenWrite, out: &mut Vec<Effect>) {
        self.writes.last += 1;
        let write = WriteId(self.writes.last);
        self.writes.open.insert(write, open);
        out.push(Effect::Persist { write, records });
    }

    fn value_version(&self) -> i16 {
        self.config.transaction_version.value_version()
    }
}

/// Every name was measured when it came in, and partitions are counted.
const NAMES_FIT: &str = "names are at most MAX_NAME_BYTES long, counts are bounded";

fn key_of(id: &str) -> bytes::Bytes {
    codec::encode_key(id).expect(NAMES_FIT)
}

/// The state as it is stored.
fn value_of(metadata: &Metadata) -> TransactionValue {
    let mut topics: Vec<TopicPartitions> = Vec::new();
    for partition in &metadata.partitions {
        match topics.last_mut() {
            Some(topic) if *topic.topic == *partition.topic => {
                topic.partitions.push(partition.partition);
            }
            _ => topics.push(TopicPartitions {
                topic: partition.topic.to_string(),
                partitions: vec![partition.partition],
            }),
        }
    }
    TransactionValue {
        producer_id: metadata.producer.id,
        previous_producer_id: metadata.previous_producer_id,
        next_producer_id: metadata.next_producer_id,
        epoch: metadata.producer.epoch,
        next_epoch: metadata.next_epoch,
        timeout_ms: metadata.timeout_ms,
        status: metadata.state.id(),
        partitions: (metadata.state != TransactionState::Empty).then_some(topics),
        last_update_ms: metadata.last_update_ms,
        start_ms: metadata.start_ms,
        client_version: metadata.client_version.level(),
    }
}

fn reply(out: &mut Vec<Effect>, token: Token, reply: Reply) {
    out.push(Effect::Reply { token, reply });
}
