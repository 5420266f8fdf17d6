//! Offsets that are committed in transactions: random commits, markers, deletions, expiries and crashes,
//! with writes that end in any order or not at all, under hundreds of seeds, against a replay of the log
//! by Kafka's rules. Then the cases by name.
#![allow(clippy::unwrap_used, reason = "a test may fail that way")]

use std::collections::{BTreeMap, BTreeSet};

use dlog_groups::codec::{OffsetCommitValue, RecordKey};
use dlog_groups::{
    CommitPartition, CommitTopic, Effect, FetchedOffset, GroupConfig, GroupCoordinator, GroupError,
    GroupRecord, OffsetCommit, OffsetDelete, PersistError, Producer, Reply, Token,
    TransactionMarker, WriteId,
};
use uuid::Uuid;

const TOPIC: &str = "t";
const PARTITIONS: i32 = 3;
const GROUPS: [&str; 2] = ["g", "h"];
const PRODUCERS: i64 = 3;

/// What is in the log.
#[derive(Debug, Clone)]
enum Entry {
    Plain(Vec<GroupRecord>),
    InTransaction(i64, Vec<GroupRecord>),
    End(i64, bool),
}

type Key = (String, i32);

/// What the log says, by Kafka's rules.
#[derive(Debug, Default)]
struct Model {
    offsets: BTreeMap<Key, (usize, i64)>,
    waiting: BTreeMap<i64, BTreeMap<Key, (usize, i64)>>,
}

impl Model {
    fn of(log: &[Entry]) -> Self {
        let mut model = Self::default();
        for (at, entry) in log.iter().enumerate() {
            match entry {
                Entry::Plain(records) => records.iter().for_each(|r| model.plain(at, r)),
                Entry::InTransaction(producer, records) => {
                    for record in records {
                        let (key, offset) = read(record).unwrap();
                        let waiting = model.waiting.entry(*producer).or_default();
                        waiting.insert(key, (at, offset.unwrap()));
                    }
                }
                Entry::End(producer, committed) => model.end(*producer, *committed),
            }
        }
        model
    }

    fn plain(&mut self, at: usize, record: &GroupRecord) {
        match read(record) {
            Some((key, Some(offset))) => drop(self.offsets.insert(key, (at, offset))),
            Some((key, None)) => {
                self.offsets.remove(&key);
                for waiting in self.waiting.values_mut() {
                    waiting.remove(&key);
                }
            }
            None => {}
        }
    }

    fn end(&mut self, producer: i64, committed: bool) {
        for (key, (at, offset)) in self.waiting.remove(&producer).unwrap_or_default() {
            let newer = self.offsets.get(&key).is_none_or(|(known, _)| *known < at);
            if committed && newer {
                self.offsets.insert(key, (at, offset));
            }
        }
    }

    fn is_stable(&self, key: &Key) -> bool {
        !self
            .waiting
            .values()
            .any(|waiting| waiting.contains_key(key))
    }
}

/// The partition and offset of a record, if it is about one.
fn read(record: &GroupRecord) -> Option<(Key, Option<i64>)> {
    let RecordKey::Offset {
        group, partition, ..
    } = RecordKey::decode(&record.key).unwrap()
    else {
        return None;
    };
    let value = record.value.as_deref();
    let offset = value.map(|value| OffsetCommitValue::decode(value).unwrap().offset);
    Some(((group.to_owned(), partition), offset))
}

struct Shell {
    coordinator: GroupCoordinator,
    now_ms: i64,
    log: Vec<Entry>,
    /// Writes that were not reported.
    open: BTreeSet<WriteId>,
    replies: BTreeMap<Token, Reply>,
    last_token: Token,
    fail_next: bool,
}

fn config() -> GroupConfig {
    GroupConfig {
        offsets_retention_ms: 1_000,
        offsets_retention_check_interval_ms: 300,
        ..GroupConfig::default()
    }
}

impl Shell {
    fn on(log: Vec<Entry>, now_ms: i64) -> Self {
        let mut coordinator = GroupCoordinator::new(config());
        for entry in &log {
            match entry {
                Entry::Plain(records) => {
                    for record in records {
                        let value = record.value.as_deref();
                        coordinator.apply_record(&record.key, value).unwrap();
                    }
                }
                Entry::InTransaction(producer, records) => {
                    for record in records {
                        let (key, value) = (&record.key, record.value.as_deref());
                        coordinator
                            .apply_transactional_record(*producer, key, value)
                            .unwrap();
                    }
                }
                Entry::End(producer, committed) => {
                    coordinator
                        .apply_transaction_end(*producer, *committed)
                        .unwrap();
                }
            }
        }
        let mut shell = Self {
            coordinator,
            now_ms,
            log,
            open: BTreeSet::new(),
            replies: BTreeMap::new(),
            last_token: 0,
            fail_next: false,
        };
        shell.step(|coordinator, now_ms, _, out| coordinator.finish_loading(now_ms, out));
        shell
    }

    fn step(
        &mut self,
        take: impl FnOnce(&mut GroupCoordinator, i64, Token, &mut Vec<Effect>),
    ) -> Token {
        self.last_token += 1;
        let token = self.last_token;
        let mut out = Vec::new();
        take(&mut self.coordinator, self.now_ms, token, &mut out);
        self.carry_out(out);
        token
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        let mut refused = Vec::new();
        for effect in effects {
            let (write, entry) = match effect {
                Effect::Reply { token, reply } => {
                    assert!(self.replies.insert(token, reply).is_none(), "two replies");
                    continue;
                }
                Effect::Persist { write, records } => (write, Entry::Plain(records)),
                Effect::PersistInTransaction {
                    write,
                    producer,
                    records,
                } => (write, Entry::InTransaction(producer.id, records)),
                Effect::PersistMarker { write, marker } => {
                    (write, Entry::End(marker.producer.id, marker.committed))
                }
            };
            assert!(self.open.iter().all(|open| *open < write), "writes ascend");
            if std::mem::take(&mut self.fail_next) {
                refused.push(write);
            } else {
                self.log.push(entry);
                self.open.insert(write);
            }
        }
        // As with the real shell: what cannot be appended is reported at once, what is appended fails
        // no more.
        for write in refused {
            let refused = Err(PersistError::Unavailable);
            let mut out = Vec::new();
            self.coordinator
                .persisted(self.now_ms, write, refused, &mut out);
            self.carry_out(out);
        }
    }

    fn report(&mut self, at: usize) {
        let write = *self.open.iter().nth(at).unwrap();
        self.open.remove(&write);
        self.step(|c, now_ms, _, out| c.persisted(now_ms, write, Ok(()), out));
    }

    fn report_all(&mut self) {
        while !self.open.is_empty() {
            self.report(0);
        }
    }

    fn commit(&mut self, group: &str, partition: i32, offset: i64) -> Token {
        let request = commit(group, partition, offset);
        self.step(|c, now_ms, token, out| c.commit_offsets(now_ms, &request, token, out))
    }

    fn commit_in(&mut self, producer: i64, group: &str, partition: i32, offset: i64) -> Token {
        let request = commit(group, partition, offset);
        let producer = Producer {
            id: producer,
            epoch: 0,
        };
        self.step(|c, now_ms, token, out| {
            c.commit_transactional_offsets(now_ms, &request, producer, token, out);
        })
    }

    fn end(&mut self, producer: i64, committed: bool) -> Token {
        let marker = TransactionMarker {
            producer: Producer {
                id: producer,
                epoch: 0,
            },
            committed,
            coordinator_epoch: 0,
            strict_epoch: false,
        };
        self.step(|c, now_ms, token, out| c.end_transaction(now_ms, marker, token, out))
    }

    fn delete(&mut self, group: &str, partition: i32) -> Token {
        let request = OffsetDelete {
            group_id: group.to_owned(),
            topics: vec![(TOPIC.to_owned(), vec![partition])],
        };
        self.step(|c, now_ms, token, out| c.delete_offsets(now_ms, &request, token, out))
    }

    fn delete_group(&mut self, group: &str) -> Token {
        self.step(|c, now_ms, token, out| c.delete_group(now_ms, group, token, out))
    }

    fn pass(&mut self, ms: i64) {
        self.now_ms += ms;
        let due = self.coordinator.next_deadline_ms();
        if due.is_some_and(|due| due <= self.now_ms) {
            self.step(|c, now_ms, _, out| c.tick(now_ms, out));
        }
    }

    fn fetch(&self, group: &str, stable: bool) -> Vec<FetchedOffset> {
        let asked = [(TOPIC.to_owned(), (0..PARTITIONS).collect())];
        let fetched = if stable {
            self.coordinator.fetch_stable_offsets(group, Some(&asked))
        } else {
            self.coordinator.fetch_offsets(group, Some(&asked))
        };
        fetched.unwrap()
    }

    fn offset(&self, group: &str, partition: usize) -> i64 {
        self.fetch(group, false)[partition].offset
    }

    fn is_unstable(&self, group: &str, partition: usize) -> bool {
        self.fetch(group, true)[partition].unstable
    }

    /// Nothing is under way: what is shown is what the log says.
    fn check(&self, what: &str) {
        let model = Model::of(&self.log);
        for group in GROUPS {
            for (plain, stable) in self.fetch(group, false).iter().zip(self.fetch(group, true)) {
                let key = (group.to_owned(), plain.partition);
                let expected = model.offsets.get(&key).map_or(-1, |(_, offset)| *offset);
                assert_eq!(plain.offset, expected, "{what}: {key:?}");
                assert_eq!(stable.unstable, !model.is_stable(&key), "{what}: {key:?}");
                let shown = if stable.unstable { -1 } else { expected };
                assert_eq!(stable.offset, shown, "{what}: {key:?}");
            }
        }
    }
}

fn commit(group: &str, partition: i32, offset: i64) -> OffsetCommit {
    OffsetCommit {
        group_id: group.to_owned(),
        member_id: String::new(),
        group_instance_id: None,
        generation_id: -1,
        retention_ms: None,
        knows_member_epochs: true,
        topics: vec![CommitTopic {
            topic: TOPIC.to_owned(),
            topic_id: Uuid::nil(),
            partitions: vec![CommitPartition {
                partition,
                offset,
                leader_epoch: -1,
                metadata: String::new(),
            }],
        }],
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

fn play(seed: u64) {
    let mut random = Random(seed);
    let mut shell = Shell::on(Vec::new(), 1_000_000);
    let mut aborted = BTreeSet::new();
    let mut open: BTreeMap<i64, BTreeSet<i64>> = BTreeMap::new();
    for step in 0..400 {
        let offset = i64::from(step);
        let group = GROUPS[random.below(GROUPS.len())];
        let partition = random.below(PARTITIONS as usize) as i32;
        let producer = random.below(PRODUCERS as usize) as i64;
        shell.fail_next = random.below(20) == 0;
        match random.below(100) {
            0..15 => drop(shell.commit(group, partition, offset)),
            15..40 => {
                shell.commit_in(producer, group, partition, offset);
                open.entry(producer).or_default().insert(offset);
            }
            40..55 => {
                let committed = random.below(3) > 0;
                let failed = shell.fail_next;
                shell.end(producer, committed);
                let ended = open.remove(&producer).unwrap_or_default();
                if failed {
                    open.insert(producer, ended);
                } else if !committed {
                    aborted.extend(ended);
                }
            }
            55..58 => drop(shell.delete(group, partition)),
            58..60 => drop(shell.delete_group(group)),
            60..64 => shell.pass(random.below(600) as i64),
            64..96 if !shell.open.is_empty() => shell.report(random.below(shell.open.len())),
            96..98 => {
                shell.fail_next = false;
                shell.report_all();
                shell.check(&format!("seed {seed}, step {step}"));
            }
            98..100 => {
                // What was not reported may be lost, from the end.
                let lost = random.below(shell.open.len() + 1);
                let kept = shell.log.len() - lost;
                let mut log = shell.log.clone();
                log.truncate(kept);
                shell = Shell::on(log, shell.now_ms);
                shell.check(&format!("seed {seed}, step {step}, after a crash"));
                // What a lost marker aborted may be committed by the next one.
                aborted.clear();
                open.clear();
            }
            _ => {}
        }
        shell.fail_next = false;
        let shown = GROUPS
            .iter()
            .flat_map(|group| shell.fetch(group, false))
            .map(|fetched| fetched.offset);
        for offset in shown {
            assert!(
                !aborted.contains(&offset),
                "seed {seed}: {offset} was aborted"
            );
        }
    }
    shell.report_all();
    shell.check(&format!("seed {seed}, at the end"));
    let again = Shell::on(shell.log.clone(), shell.now_ms);
    again.check(&format!("seed {seed}, loaded"));
}

#[test]
fn offsets_of_transactions_are_those_that_the_log_says() {
    let only = std::env::var("SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seeds = only.map_or(0..500, |seed| seed..seed + 1);
    seeds.for_each(play);
}

#[test]
fn an_offset_counts_only_behind_its_commit_marker() {
    let mut shell = Shell::on(Vec::new(), 0);
    shell.commit("g", 0, 5);
    shell.report_all();
    shell.commit_in(1, "g", 0, 9);
    assert_eq!(shell.offset("g", 0), 5);
    assert!(shell.is_unstable("g", 0), "on its way to the log already");
    assert!(!shell.is_unstable("g", 1));
    shell.report_all();
    assert!(shell.is_unstable("g", 0));
    let ended = shell.end(1, true);
    assert_eq!((shell.offset("g", 0), shell.is_unstable("g", 0)), (5, true));
    shell.report_all();
    assert_eq!(shell.replies[&ended], Reply::EndTransaction(Ok(())));
    assert_eq!(
        (shell.offset("g", 0), shell.is_unstable("g", 0)),
        (9, false)
    );
    shell.commit_in(1, "g", 0, 12);
    shell.end(1, false);
    shell.report_all();
    assert_eq!(
        (shell.offset("g", 0), shell.is_unstable("g", 0)),
        (9, false)
    );
}

#[test]
fn a_later_commit_wins_over_an_earlier_one_whose_transaction_ends_later() {
    let mut shell = Shell::on(Vec::new(), 0);
    shell.commit_in(1, "g", 0, 9);
    shell.commit("g", 0, 5);
    shell.report_all();
    assert!(shell.is_unstable("g", 0), "the transaction is open");
    shell.end(1, true);
    shell.report_all();
    assert_eq!(shell.offset("g", 0), 5);
    assert_eq!(Shell::on(shell.log.clone(), 0).offset("g", 0), 5);
}

#[test]
fn a_group_with_an_open_transaction_does_not_expire() {
    let mut shell = Shell::on(Vec::new(), 0);
    shell.commit_in(1, "g", 0, 9);
    shell.commit("g", 1, 3);
    shell.report_all();
    for _ in 0..10 {
        shell.pass(1_000);
        shell.report_all();
    }
    assert_eq!(shell.offset("g", 1), -1, "expired as ever");
    assert!(shell.is_unstable("g", 0));
    shell.end(1, true);
    shell.report_all();
    assert_eq!(shell.offset("g", 0), 9);
}

#[test]
fn a_deleted_group_takes_its_waiting_offsets_along() {
    let mut shell = Shell::on(Vec::new(), 0);
    shell.commit_in(1, "g", 0, 9);
    shell.report_all();
    shell.commit_in(1, "g", 1, 9);
    let deleted = shell.delete_group("g");
    shell.report_all();
    assert_eq!(shell.replies[&deleted], Reply::DeleteGroup(Ok(())));
    shell.end(1, true);
    shell.report_all();
    assert_eq!((shell.offset("g", 0), shell.offset("g", 1)), (-1, -1));
    shell.check("deleted");
}

#[test]
fn a_fenced_producer_is_told_so() {
    let mut shell = Shell::on(Vec::new(), 0);
    let token = shell.commit_in(1, "g", 0, 9);
    let write = shell.open.pop_first().unwrap();
    let fenced = Err(PersistError::ProducerFenced);
    shell.step(|c, now_ms, _, out| c.persisted(now_ms, write, fenced, out));
    let Reply::OffsetCommit(results) = &shell.replies[&token] else {
        panic!("{:?}", shell.replies)
    };
    let error = results[0].partitions[0].1;
    assert_eq!(error, Some(GroupError::InvalidProducerEpoch));
    assert!(!shell.is_unstable("g", 0));
}
