//! Transactions against a model: whatever is appended, cut, deleted, lost with the power or damaged in an
//! index, a reader of committed records sees what the markers say, and nothing that a power loss could
//! still decide otherwise.
//!
//! The model is the list of all batches, replayed from its start for every question. A failure prints
//! its seed: `DLOG_SEED=n cargo test -p dlog-storage --test transaction_model` repeats it.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use dlog_storage::disk::{Disk, SimDisk, SimFault};
use dlog_storage::record::control::EndTxnMarker;
use dlog_storage::record::{Batch, BatchBuilder};
use dlog_storage::{
    AbortedTransaction, AppendMode, Appended, EndMarker, FlushPolicy, Flusher, Log, LogConfig,
    ReadLimit, StorageError,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use common::env;

const SEEDS: u64 = 600;
const LIVES: usize = 4;
const DIR: &str = "/data/t-0";
const LEADER: AppendMode = AppendMode::Leader {
    leader_epoch: 0,
    log_append_time: None,
};

fn config(random: &mut StdRng, flush: FlushPolicy) -> LogConfig {
    LogConfig {
        segment_bytes: random.random_range(800..3_000),
        index_interval_bytes: random.random_range(50..400),
        checkpoint_bytes: 4_096,
        zero_ahead_bytes: [0, 512][random.random_range(0..2)],
        max_producers: [0, 4][random.random_range(0..2)],
        flush,
        retention_bytes: random.random_bool(0.3).then_some(2_000),
        retention_ms: None,
        ..LogConfig::default()
    }
}

#[derive(Clone, Copy, Debug)]
enum What {
    Data { sequence: i32, transactional: bool },
    End { committed: bool },
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    base: i64,
    last: i64,
    producer: i64,
    epoch: i16,
    what: What,
}

/// What the model knows of a producer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Producer {
    epoch: i16,
    last_sequence: i32,
    open: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Visible,
    Aborted,
    Undecided,
}

/// What a list of batches means.
struct Replayed {
    producers: BTreeMap<i64, Producer>,
    /// The fate of each batch of records, by base offset.
    fates: BTreeMap<i64, Fate>,
    /// Producer, first offset, marker of every aborted transaction.
    aborted: Vec<(i64, i64, i64)>,
}

/// Markers at or behind `decided` do not count yet.
fn replay(entries: &[Entry], decided: i64) -> Replayed {
    let mut all = Replayed {
        producers: BTreeMap::new(),
        fates: BTreeMap::new(),
        aborted: Vec::new(),
    };
    let mut open: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    for entry in entries {
        let producer = all.producers.entry(entry.producer).or_insert(Producer {
            epoch: entry.epoch,
            last_sequence: -1,
            open: None,
        });
        if entry.epoch > producer.epoch {
            producer.epoch = entry.epoch;
            producer.last_sequence = -1;
        }
        match entry.what {
            What::Data {
                sequence,
                transactional,
            } => {
                producer.last_sequence = sequence + (entry.last - entry.base) as i32;
                if transactional {
                    producer.open.get_or_insert(entry.base);
                    open.entry(entry.producer).or_default().push(entry.base);
                }
                let fate = if transactional {
                    Fate::Undecided
                } else {
                    Fate::Visible
                };
                all.fates.insert(entry.base, fate);
            }
            What::End { committed } => {
                let began = producer.open.take();
                let bases = open.remove(&entry.producer).unwrap_or_default();
                if let Some(began) = began.filter(|_| !committed) {
                    all.aborted.push((entry.producer, began, entry.base));
                }
                if entry.base < decided {
                    let fate = if committed {
                        Fate::Visible
                    } else {
                        Fate::Aborted
                    };
                    all.fates.extend(bases.into_iter().map(|base| (base, fate)));
                }
            }
        }
    }
    all
}

#[derive(Default)]
struct Model {
    entries: Vec<Entry>,
    /// The last stable offset that a reader was told, and may have acted on.
    told: i64,
    /// The log was truncated: transactions whose markers went are open again, wherever they began, and
    /// what was known of producers whose records are gone is forgotten.
    is_cut: bool,
}

impl Model {
    /// Checks all that a log says of transactions.
    fn check(&self, log: &Log, random: &mut StdRng, what: &str) -> Result<(), StorageError> {
        let (start, end) = (log.log_start_offset(), log.log_end_offset());
        let always = log.config().flush == FlushPolicy::Always;
        let decided = if always { log.durable_end() } else { end };
        let replayed = replay(&self.entries, decided);
        let stable = log.last_stable_offset();
        let mut undecided = replayed
            .fates
            .iter()
            .filter(|(_, fate)| **fate == Fate::Undecided);
        let first = undecided.clone().map(|(base, _)| *base).next();
        let expected = first
            .unwrap_or(i64::MAX)
            .min(log.acknowledged_end())
            .max(start);
        assert!(
            stable >= expected,
            "{what}: stable {stable}, expected {expected}"
        );
        let surviving = undecided
            .find(|(base, _)| **base >= start)
            .map(|(base, _)| *base);
        let most = surviving
            .unwrap_or(i64::MAX)
            .min(log.acknowledged_end())
            .max(start);
        assert!(
            stable <= most,
            "{what}: stable {stable}, undecided from {most}"
        );
        let open: Vec<_> = replayed
            .producers
            .iter()
            .filter(|(_, p)| p.open.is_some())
            .collect();
        for (id, producer) in &open {
            let found = log.open_transaction(**id);
            if producer.open >= Some(start) {
                let found = found.map(|open| (open.producer_epoch, Some(open.first_offset)));
                assert_eq!(found, Some((producer.epoch, producer.open)), "{what}: {id}");
            }
        }
        for found in log.producers() {
            let known = replayed.producers[&found.producer_id];
            // What retention took away cannot be rebuilt when a snapshot is lost.
            if start == 0 {
                assert_eq!(found.epoch, known.epoch, "{what}: {found:?}");
                assert_eq!(
                    found.last_sequence, known.last_sequence,
                    "{what}: {found:?}"
                );
                assert_eq!(found.current_txn_start, known.open, "{what}: {found:?}");
            }
        }
        if start == 0 {
            let found = log.aborted_transactions(0, end)?;
            let found: Vec<_> = found
                .iter()
                .map(|a| (a.producer_id, a.first_offset, a.last_offset))
                .collect();
            assert_eq!(found, replayed.aborted, "{what}");
        }
        let whole = log.aborted_transactions(start, stable)?;
        let mut seen = BTreeSet::new();
        let mut from = start;
        while from < stable {
            let (next, visible) = read(log, from, 1, Some(&whole), &replayed, what)?;
            seen.extend(visible);
            from = next;
        }
        let all = replayed
            .fates
            .iter()
            .filter(|(base, fate)| **fate == Fate::Visible && (start..stable).contains(*base));
        let missed: Vec<_> = all.filter(|(base, _)| !seen.contains(*base)).collect();
        assert!(missed.is_empty(), "{what}: not seen: {missed:?}");
        for _ in 0..4 {
            if start < stable {
                let from = random.random_range(start..stable);
                let max_bytes = random.random_range(1..2_000);
                read(log, from, max_bytes, None, &replayed, what)?;
            }
        }
        assert!(log.read_committed(stable, 1_000)?.records.is_empty());
        Ok(())
    }
}

/// Reads a slice as a consumer of committed records does (with the list that came with it, or with
/// another), and compares what it would show with the fates. Gives the offset to go on from, and the base
/// offsets of the batches that are shown.
fn read(
    log: &Log,
    from: i64,
    max_bytes: usize,
    list: Option<&[AbortedTransaction]>,
    replayed: &Replayed,
    what: &str,
) -> Result<(i64, Vec<i64>), StorageError> {
    let found = log.read_committed(from, max_bytes)?;
    let of_list = |list: &[AbortedTransaction]| {
        let touching = list.iter().filter(|one| one.last_offset >= from);
        touching.copied().collect()
    };
    let mut aborted: Vec<_> = list.map_or(found.aborted, of_list);
    aborted.sort_by_key(|transaction| transaction.first_offset);
    let mut coming = aborted.iter().peekable();
    let mut dropped = BTreeSet::new();
    let bytes = found.records.to_bytes();
    let mut bytes = bytes.map_err(|source| StorageError::io("read", log.dir(), source))?;
    let (mut next, mut shown) = (from, Vec::new());
    while let Some(batch) = Batch::split_first(&mut bytes).unwrap() {
        let header = batch.header();
        next = header.last_offset() + 1;
        while let Some(one) = coming.next_if(|one| one.first_offset <= header.last_offset()) {
            dropped.insert(one.producer_id);
        }
        if let Some(marker) = EndTxnMarker::from_batch(&batch).unwrap() {
            if !marker.committed {
                dropped.remove(&header.producer_id);
            }
            continue;
        }
        let is_shown = !(header.is_transactional() && dropped.contains(&header.producer_id));
        let fate = replayed.fates[&header.base_offset];
        let expected = if is_shown {
            Fate::Visible
        } else {
            Fate::Aborted
        };
        assert_eq!(
            fate, expected,
            "{what}: batch at {} of a read from {from}",
            header.base_offset
        );
        if is_shown {
            shown.push(header.base_offset);
        }
    }
    assert!(next > from, "{what}: nothing at {from}");
    Ok((next, shown))
}

/// Random work until the power goes; every error must be the power's.
struct Life<'a> {
    random: &'a mut StdRng,
    model: &'a mut Model,
    flush: FlushPolicy,
}

impl Life<'_> {
    fn run(&mut self, log: &Arc<Log>, flusher: &Flusher) -> Result<(), StorageError> {
        for step in 0..60 {
            match self.random.random_range(0..100) {
                0..52 => self.send(log)?,
                52..72 => self.end(log)?,
                72..78 => flusher.run_pending(),
                78..84 => log.flush()?,
                84..87 => log.checkpoint()?,
                87..89 => self.delete_records(log)?,
                89..91 => drop(log.apply_retention(5_000)?),
                91..93 => self.truncate(log)?,
                93..95 => log.set_config(config(self.random, self.flush))?,
                _ => self
                    .model
                    .check(log, self.random, &format!("step {step}"))?,
            }
            if !self.model.is_cut {
                let stable = log.last_stable_offset();
                assert!(
                    stable >= self.model.told,
                    "step {step}: it fell to {stable}"
                );
                self.model.told = stable;
            }
        }
        log.close()
    }

    fn known(&self, producer: i64) -> Producer {
        let producers = replay(&self.model.entries, i64::MAX).producers;
        let unknown = Producer {
            last_sequence: -1,
            ..Producer::default()
        };
        producers.get(&producer).copied().unwrap_or(unknown)
    }

    fn append(&mut self, log: &Log, mut entry: Entry, batch: Bytes) -> Result<(), StorageError> {
        let length = entry.last - entry.base;
        entry.base = log.log_end_offset();
        entry.last = entry.base + length;
        // Until the call returns the batch may or may not be there.
        self.model.entries.push(entry);
        let appended = log.append_batches(batch.clone(), LEADER)?;
        assert_eq!(
            (appended.base_offset, appended.duplicate),
            (entry.base, false)
        );
        if self.random.random_bool(0.1) {
            let again = log.append_batches(batch, LEADER)?;
            assert_eq!((again.base_offset, again.duplicate), (entry.base, true));
        }
        Ok(())
    }

    fn send(&mut self, log: &Log) -> Result<(), StorageError> {
        let id = self.random.random_range(0..7);
        let known = self.known(id);
        // Some producers send transactions only, some none, some one kind after the other.
        let transactional = known.open.is_some() || (id % 3 != 0 && self.random.random_bool(0.8));
        let count = self.random.random_range(1..4);
        let size = [3, 30, 200][self.random.random_range(0..3)];
        let sequence = known.last_sequence + 1;
        let batch = |sequence: i32, transactional: bool| {
            let mut builder = BatchBuilder::new()
                .producer(id, known.epoch, sequence)
                .transactional(transactional);
            for _ in 0..count {
                builder
                    .push(1_000, None, Some(&vec![7; size]), &[])
                    .unwrap();
            }
            builder.build().unwrap()
        };
        let is_known = log.producers().iter().any(|found| found.producer_id == id);
        if is_known && self.random.random_bool(0.05) {
            let gap = log.append_batches(batch(sequence + 9, transactional), LEADER);
            refused(gap, |e| {
                matches!(e, StorageError::OutOfOrderSequence { .. })
            })?;
        }
        if log.open_transaction(id).is_some() && self.random.random_bool(0.05) {
            let mixed = log.append_batches(batch(sequence, false), LEADER);
            refused(mixed, |e| matches!(e, StorageError::InvalidTxnState { .. }))?;
        }
        let entry = Entry {
            base: 0,
            last: count - 1,
            producer: id,
            epoch: known.epoch,
            what: What::Data {
                sequence,
                transactional,
            },
        };
        self.append(log, entry, batch(sequence, transactional))
    }

    fn end(&mut self, log: &Log) -> Result<(), StorageError> {
        let open = replay(&self.model.entries, i64::MAX).producers;
        let open: Vec<_> = open.into_iter().filter(|(_, p)| p.open.is_some()).collect();
        if open.is_empty() {
            return Ok(());
        }
        let (id, known) = open[self.random.random_range(0..open.len())];
        // Odd ones use transactions v2.
        let strict_epoch = id % 2 == 1;
        let committed = self.random.random_bool(0.5);
        let marker = |epoch: i16| EndMarker {
            producer_id: id,
            producer_epoch: epoch,
            committed,
            coordinator_epoch: 0,
            timestamp_ms: 1_000,
            strict_epoch,
        };
        if strict_epoch && log.open_transaction(id).is_some() {
            let stale = log.append_end_marker(marker(known.epoch), 0);
            refused(stale, |e| matches!(e, StorageError::ProducerFenced { .. }))?;
        }
        let epoch = known.epoch + i16::from(strict_epoch);
        let base = log.log_end_offset();
        self.model.entries.push(Entry {
            base,
            last: base,
            producer: id,
            epoch,
            what: What::End { committed },
        });
        let appended = log.append_end_marker(marker(epoch), 0)?;
        assert_eq!(appended.base_offset, base);
        Ok(())
    }

    fn delete_records(&mut self, log: &Log) -> Result<(), StorageError> {
        let (start, end) = (log.log_start_offset(), log.acknowledged_end());
        if start < end {
            // Rarely far, so that most of a life has its beginning.
            let to = self.random.random_range(start..=end.min(start + 6));
            log.delete_records_before(to)?;
        }
        Ok(())
    }

    fn truncate(&mut self, log: &Log) -> Result<(), StorageError> {
        let end = log.log_end_offset();
        let to = self
            .random
            .random_range((end - 5).max(log.log_start_offset())..=end);
        (self.model.is_cut, self.model.told) = (true, 0);
        let new_end = log.truncate_to(to)?;
        self.model.entries.retain(|entry| entry.base < new_end);
        Ok(())
    }
}

/// The append must have been refused with such an error, unless the power went.
fn refused(
    appended: Result<Appended, StorageError>,
    fits: impl FnOnce(&StorageError) -> bool,
) -> Result<(), StorageError> {
    match appended {
        Err(error @ (StorageError::Io { .. } | StorageError::Offline { .. })) => Err(error),
        Err(error) if fits(&error) => Ok(()),
        other => panic!("{other:?}"),
    }
}

/// Lies, tears or removes what is only a hint.
fn damage(disk: &SimDisk, random: &mut StdRng) {
    let dir = Path::new(DIR);
    for file in disk.list(dir).unwrap() {
        let is_hint = [".txnindex", ".snapshot", ".index"]
            .iter()
            .any(|end| file.name.ends_with(end));
        if !is_hint || random.random_bool(0.5) {
            continue;
        }
        let path = dir.join(&file.name);
        let mut bytes = disk.content(&path).unwrap();
        match random.random_range(0..5) {
            0 => disk.remove_file(&path).unwrap(),
            1 => {
                let len = random.random_range(0..=bytes.len());
                bytes.truncate(len / 34 * 34);
                disk.set_content(&path, bytes);
            }
            2 if !bytes.is_empty() => {
                let at = random.random_range(0..bytes.len());
                bytes[at] ^= 1 << random.random_range(0..8);
                disk.set_content(&path, bytes);
            }
            3 => {
                let lie = AbortedTransaction {
                    producer_id: random.random_range(0..7),
                    first_offset: 0,
                    last_offset: 1_000_000,
                    last_stable_offset: 0,
                };
                bytes.extend(lie.encode());
                disk.set_content(&path, bytes);
            }
            _ => disk.set_content(&path, Vec::new()),
        }
    }
}

fn run_seed(seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let flush = match seed % 4 {
        0..3 => FlushPolicy::Always,
        _ => FlushPolicy::Os,
    };
    let mut disk = SimDisk::new();
    let mut model = Model::default();
    for life in 0..LIVES {
        let env = env(&disk);
        let config = config(&mut random, flush);
        let kill_only = random.random_bool(0.2);
        let power = random.random_range(0..200);
        disk.set_fault(SimFault {
            power_fails_after: Some(power),
            ..SimFault::default()
        });
        if let Ok((log, _)) = Log::open_with(&env, Path::new(DIR), config.clone()) {
            let mut work = Life {
                random: &mut random,
                model: &mut model,
                flush,
            };
            let _ = work.run(&log, &env.flusher);
        }
        disk = if kill_only {
            disk.process_kill()
        } else {
            disk.power_loss(random.random())
        };
        if random.random_bool(0.3) {
            damage(&disk, &mut random);
        }
        let (log, report) = Log::open_with(&self::env(&disk), Path::new(DIR), config)
            .unwrap_or_else(|error| panic!("life {life}: must never need an operator: {error}"));
        let what = format!("life {life}, {report:?}");
        let end = log.log_end_offset();
        model.entries.retain(|entry| entry.base < end);
        model.check(&log, &mut random, &what).unwrap();
        if kill_only || flush == FlushPolicy::Always {
            let stable = log.last_stable_offset();
            assert!(
                stable >= model.told,
                "{what}: stable {stable}, told {}",
                model.told
            );
        }
        (model.is_cut, model.told) = (false, log.last_stable_offset());
        if random.random_bool(0.5) {
            log.close().unwrap();
        }
    }
}

#[test]
fn readers_of_committed_records_are_never_told_wrong() {
    let seeds = match std::env::var("DLOG_SEED") {
        Ok(seed) => {
            let seed = seed.parse().unwrap();
            seed..seed + 1
        }
        Err(_) => 0..SEEDS,
    };
    for seed in seeds {
        let result = std::panic::catch_unwind(|| run_seed(seed));
        if let Err(panic) = result {
            eprintln!("failed with DLOG_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

/// One history with transactions over several segments, its indexes written and read again.
fn history(log: &Log, model: &mut Model) -> Result<(), StorageError> {
    let mut random = StdRng::seed_from_u64(1);
    let mut life = Life {
        random: &mut random,
        model,
        flush: FlushPolicy::Always,
    };
    for i in 0..24 {
        life.send(log)?;
        life.send(log)?;
        life.end(log)?;
        match i % 8 {
            1 | 5 => log.flush()?,
            3 => log.checkpoint()?,
            6 if i == 22 => life.truncate(log)?,
            _ => {}
        }
        if !life.model.is_cut {
            life.model.told = log.last_stable_offset();
        }
    }
    log.close()
}

/// The power goes at every change that the history makes to the disk.
#[test]
fn a_crash_at_any_change_leaves_what_the_markers_say() {
    let config = LogConfig {
        segment_bytes: 700,
        index_interval_bytes: 64,
        zero_ahead_bytes: 512,
        retention_ms: None,
        max_producers: 0,
        ..LogConfig::default()
    };
    for power in 0.. {
        let disk = SimDisk::new();
        disk.set_fault(SimFault {
            power_fails_after: Some(power),
            ..SimFault::default()
        });
        let mut model = Model::default();
        let opened = Log::open_with(&env(&disk), Path::new(DIR), config.clone());
        let ended = opened.and_then(|(log, _)| history(&log, &mut model));
        for seed in 0..3 {
            let after = disk.power_loss(seed);
            let (log, report) =
                Log::open_with(&env(&after), Path::new(DIR), config.clone()).unwrap();
            let what = format!("change {power}, seed {seed}, {report:?}");
            let mut found = Model::default();
            let end = log.log_end_offset();
            found.entries = model.entries.clone();
            found.entries.retain(|entry| entry.base < end);
            let random = &mut StdRng::seed_from_u64(seed);
            found.check(&log, random, &what).unwrap();
            assert!(log.last_stable_offset() >= model.told, "{what}");
            let read = log.read_range(0, 1 << 20, ReadLimit::Stable).unwrap();
            assert!(!read.is_empty() || log.last_stable_offset() == 0, "{what}");
        }
        if ended.is_ok() {
            assert!(power > 100, "the history ended after {power} changes");
            return;
        }
    }
}
