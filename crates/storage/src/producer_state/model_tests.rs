//! Random batches and markers against a model that keeps all of them and counts anew for every question.
//!
//! A failure prints its seed: `DLOG_SEED=n cargo test -p dlog-storage producer_state` repeats it.

use std::collections::{BTreeMap, BTreeSet};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::record::add_to_sequence;

const TRANSACTIONAL: i16 = 1 << 4;
const CONTROL: i16 = 1 << 5;

/// One thing that was appended for a producer.
#[derive(Clone, Copy, Debug)]
enum Event {
    Batch(BatchHeader),
    Marker {
        epoch: i16,
        coordinator_epoch: i32,
        offset: i64,
    },
}

/// All that was appended for each producer since it was last forgotten.
#[derive(Default)]
struct Model {
    events: BTreeMap<i64, Vec<Event>>,
}

#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Append,
    Duplicate(i64, i64),
    Fenced,
    CoordinatorFenced,
    OutOfOrder(i32),
    InvalidState,
}

impl Model {
    fn epoch(&self, id: i64) -> Option<i16> {
        self.events.get(&id)?.iter().map(Event::epoch).max()
    }

    /// The last batches under the current epoch, newest first.
    fn window(&self, id: i64) -> Vec<BatchHeader> {
        let epoch = self.epoch(id);
        let events = self.events.get(&id).into_iter().flatten();
        let batches = events.filter_map(|event| match event {
            Event::Batch(header) if Some(header.producer_epoch) == epoch => Some(*header),
            _ => None,
        });
        let mut batches: Vec<_> = batches.collect();
        batches.reverse();
        batches.truncate(5);
        batches
    }

    fn open_since(&self, id: i64) -> Option<i64> {
        let events = self.events.get(&id)?;
        let mut open = None;
        for event in events {
            match event {
                Event::Batch(header) if header.is_transactional() => {
                    open.get_or_insert(header.base_offset);
                }
                Event::Batch(_) => {}
                Event::Marker { .. } => open = None,
            }
        }
        open
    }

    fn coordinator_epoch(&self, id: i64) -> i32 {
        let events = self.events.get(&id).into_iter().flatten();
        let epochs = events.filter_map(|event| match event {
            Event::Marker {
                coordinator_epoch, ..
            } => Some(*coordinator_epoch),
            Event::Batch(_) => None,
        });
        epochs.max().unwrap_or(-1)
    }

    fn batch(&self, header: &BatchHeader) -> Answer {
        let id = header.producer_id;
        let Some(epoch) = self.epoch(id) else {
            return Answer::Append;
        };
        if header.producer_epoch < epoch {
            return Answer::Fenced;
        }
        let window = self.window(id);
        let mut expected = 0;
        if header.producer_epoch == epoch {
            let same = window.iter().find(|sent| {
                sent.base_sequence == header.base_sequence
                    && sent.last_offset_delta == header.last_offset_delta
            });
            if let Some(sent) = same {
                return Answer::Duplicate(sent.base_offset, sent.last_offset());
            }
            if let Some(newest) = window.first() {
                expected = add_to_sequence(newest.last_sequence(), 1);
            }
        }
        if header.base_sequence != expected {
            return Answer::OutOfOrder(expected);
        }
        if self.open_since(id).is_some() && !header.is_transactional() {
            return Answer::InvalidState;
        }
        Answer::Append
    }

    fn marker(&self, marker: &EndMarker) -> Answer {
        let id = marker.producer_id;
        let Some(epoch) = self.epoch(id) else {
            return Answer::Append;
        };
        let is_open = self.open_since(id).is_some();
        let is_old = marker.producer_epoch < epoch;
        let is_same = marker.producer_epoch == epoch;
        if is_old || (marker.strict_epoch && is_same && is_open && epoch < i16::MAX) {
            Answer::Fenced
        } else if marker.coordinator_epoch < self.coordinator_epoch(id) {
            Answer::CoordinatorFenced
        } else {
            Answer::Append
        }
    }

    fn first_open(&self) -> Option<i64> {
        self.events
            .keys()
            .filter_map(|id| self.open_since(*id))
            .min()
    }
}

impl Event {
    fn epoch(&self) -> i16 {
        match self {
            Self::Batch(header) => header.producer_epoch,
            Self::Marker { epoch, .. } => *epoch,
        }
    }

    /// Its timestamp: the offset that it began at.
    fn time(&self) -> i64 {
        match self {
            Self::Batch(header) => header.max_timestamp,
            Self::Marker { offset, .. } => *offset,
        }
    }
}

fn answer(verdict: Result<Verdict>) -> Answer {
    match verdict {
        Ok(Verdict::Append) => Answer::Append,
        Ok(Verdict::Duplicate {
            base_offset,
            last_offset,
            ..
        }) => Answer::Duplicate(base_offset, last_offset),
        Err(StorageError::ProducerFenced { .. }) => Answer::Fenced,
        Err(StorageError::CoordinatorFenced { .. }) => Answer::CoordinatorFenced,
        Err(StorageError::OutOfOrderSequence { expected, .. }) => Answer::OutOfOrder(expected),
        Err(StorageError::InvalidTxnState { .. }) => Answer::InvalidState,
        Err(other) => panic!("{other}"),
    }
}

struct Run {
    random: StdRng,
    states: ProducerStates,
    model: Model,
    next_offset: i64,
}

impl Run {
    fn epoch(&mut self, id: i64) -> i16 {
        let current = self.model.epoch(id).unwrap_or(0);
        match self.random.random_range(0..20) {
            0 => current.saturating_sub(1),
            1 => current.saturating_add(1),
            2 if id == 0 => i16::MAX,
            _ => current,
        }
    }

    fn batch(&mut self) {
        let id = self.random.random_range(0..6);
        let window = self.model.window(id);
        let expected = window
            .first()
            .map_or(0, |newest| add_to_sequence(newest.last_sequence(), 1));
        let (sequence, delta) = match self.random.random_range(0..10) {
            0 => (self.random.random_range(0..4), 0),
            1 => (i32::MAX - self.random.random_range(0..3), 1),
            2..4 if !window.is_empty() => {
                let again = window[self.random.random_range(0..window.len())];
                (again.base_sequence, again.last_offset_delta)
            }
            _ => (expected, self.random.random_range(0..3)),
        };
        let must = self.model.open_since(id).is_some() && self.random.random_bool(0.9);
        let transactional = must || self.random.random_bool(0.4);
        let header = BatchHeader {
            base_offset: self.next_offset,
            batch_length: 49,
            partition_leader_epoch: 0,
            magic: 2,
            crc: 0,
            attributes: if transactional { TRANSACTIONAL } else { 0 },
            last_offset_delta: delta,
            base_timestamp: self.next_offset,
            max_timestamp: self.next_offset,
            producer_id: id,
            producer_epoch: self.epoch(id),
            base_sequence: sequence,
            record_count: delta + 1,
        };
        let expected = self.model.batch(&header);
        assert_eq!(answer(self.states.check(&header)), expected, "{header:?}");
        if expected == Answer::Append {
            self.states.record(&header, Place::default(), 0);
            self.model
                .events
                .entry(id)
                .or_default()
                .push(Event::Batch(header));
            self.next_offset = header.last_offset() + 1;
        }
    }

    fn marker(&mut self) {
        let id = self.random.random_range(0..6);
        let known = self.model.coordinator_epoch(id);
        let marker = EndMarker {
            producer_id: id,
            producer_epoch: self.epoch(id),
            committed: self.random.random_bool(0.5),
            coordinator_epoch: (known + self.random.random_range(-1..2)).max(0),
            timestamp_ms: self.next_offset,
            strict_epoch: self.random.random_bool(0.4),
        };
        let expected = self.model.marker(&marker);
        let found = answer(self.states.check_marker(&marker).map(|()| Verdict::Append));
        assert_eq!(found, expected, "{marker:?}");
        if expected != Answer::Append {
            return;
        }
        let offset = self.next_offset;
        let header = BatchHeader {
            base_offset: offset,
            attributes: TRANSACTIONAL | CONTROL,
            last_offset_delta: 0,
            max_timestamp: offset,
            producer_id: id,
            producer_epoch: marker.producer_epoch,
            base_sequence: -1,
            record_count: 1,
            batch_length: 49,
            partition_leader_epoch: 0,
            magic: 2,
            crc: 0,
            base_timestamp: offset,
        };
        let content = EndTxnMarker {
            committed: marker.committed,
            coordinator_epoch: marker.coordinator_epoch,
        };
        let began = self.model.open_since(id);
        let completed = self.states.record_marker(&header, content);
        self.model
            .events
            .entry(id)
            .or_default()
            .push(Event::Marker {
                epoch: marker.producer_epoch,
                coordinator_epoch: marker.coordinator_epoch,
                offset,
            });
        self.next_offset += 1;
        let stable = self.model.first_open().unwrap_or(self.next_offset);
        let found = completed.map(|c| (c.open.first_offset, c.last_offset, c.last_stable_offset));
        assert_eq!(found, began.map(|began| (began, offset, stable)));
    }

    fn forget(&mut self) {
        if self.random.random_bool(0.5) {
            let before_ms = self.next_offset - self.random.random_range(0..40);
            self.states.expire(before_ms);
            let old: Vec<i64> = self
                .model
                .events
                .iter()
                .filter(|(_, events)| events.last().is_some_and(|last| last.time() < before_ms))
                .map(|(id, _)| *id)
                .collect();
            for id in old {
                if self.model.open_since(id).is_none() {
                    self.model.events.remove(&id);
                }
            }
        } else if self.states.evict(3) > 0 {
            // Which ones is told by what is left; that it was right by what is open and who was last.
            let left: BTreeSet<i64> = self
                .states
                .summaries()
                .iter()
                .map(|s| s.producer_id)
                .collect();
            let model = &self.model;
            let open = model
                .events
                .keys()
                .filter(|id| model.open_since(**id).is_some());
            assert!(
                open.clone().all(|id| left.contains(id)),
                "an open transaction was forgotten"
            );
            let last = model.events.values().filter_map(|events| events.last());
            if let Some(Event::Batch(newest)) = last.max_by_key(|event| event.time()) {
                let id = newest.producer_id;
                assert!(left.contains(&id), "the busiest producer was forgotten");
            }
            self.model.events.retain(|id, _| left.contains(id));
        }
    }

    fn compare(&self) {
        let shown = self.states.summaries();
        let ids: Vec<i64> = shown.iter().map(|summary| summary.producer_id).collect();
        assert_eq!(ids, self.model.events.keys().copied().collect::<Vec<_>>());
        for summary in shown {
            let id = summary.producer_id;
            let newest = self
                .model
                .window(id)
                .first()
                .map_or(-1, BatchHeader::last_sequence);
            assert_eq!(Some(summary.epoch), self.model.epoch(id));
            assert_eq!(summary.last_sequence, newest);
            assert_eq!(summary.coordinator_epoch, self.model.coordinator_epoch(id));
            assert_eq!(summary.current_txn_start, self.model.open_since(id));
        }
        let first = self.states.first_open().map(|open| open.first_offset);
        assert_eq!(first, self.model.first_open());
    }
}

fn run(seed: u64) {
    let mut run = Run {
        random: StdRng::seed_from_u64(seed),
        states: ProducerStates::default(),
        model: Model::default(),
        next_offset: 0,
    };
    for _ in 0..200 {
        match run.random.random_range(0..100) {
            0..65 => run.batch(),
            65..90 => run.marker(),
            90..93 => run.forget(),
            93..96 => {
                let snapshot = Snapshot {
                    states: std::mem::take(&mut run.states),
                    ..Snapshot::default()
                };
                run.states = decode(&snapshot.encode()).unwrap().states;
            }
            _ => run.compare(),
        }
    }
}

#[test]
fn producers_are_judged_as_the_model_judges_them() {
    let seeds = match std::env::var("DLOG_SEED") {
        Ok(seed) => {
            let seed = seed.parse().unwrap();
            seed..seed + 1
        }
        Err(_) => 0..1_000,
    };
    for seed in seeds {
        if let Err(panic) = std::panic::catch_unwind(|| run(seed)) {
            eprintln!("failed with DLOG_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}
