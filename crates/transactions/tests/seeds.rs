//! Random producers, failed and lost writes, lost markers, timeouts and crashes at every step, under
//! thousands of seeds, against partitions that remember what became of each transaction.
#![allow(clippy::unwrap_used, reason = "a test may fail that way")]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{Shell, V0, V2, add_request, config};
use dlog_transactions::codec::TransactionValue;
use dlog_transactions::{
    MarkerOutcome, Markers, PersistError, Producer, Reply, Token, TransactionError,
    TransactionState, TransactionVersion,
};

const SEEDS: u64 = 2_000;
const STEPS: usize = 600;
const PARTITIONS: usize = 3;

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

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

/// A transaction as its producer sees it.
type Tag = u64;

/// A process that uses the transactional id.
struct Process {
    version: TransactionVersion,
    me: Option<Producer>,
    tag: Tag,
    waits: bool,
    /// Something was added to the transaction.
    added: bool,
    /// An EndTxn without a final answer: it is asked again until there is one.
    ending: Option<(Producer, bool)>,
    /// The last EndTxn that succeeded, when nothing else was asked since: request, answer.
    ended: Option<(Producer, bool, Producer)>,
}

enum Asked {
    Init,
    Add {
        me: Producer,
        partitions: Vec<i32>,
    },
    End {
        me: Producer,
        committed: bool,
        again: Option<Producer>,
    },
}

/// What a partition knows of a producer id.
#[derive(Default)]
struct Partition {
    epochs: BTreeMap<i64, i16>,
    open: BTreeMap<i64, Tag>,
}

struct Run {
    random: Random,
    server: TransactionVersion,
    shell: Shell,
    processes: Vec<Process>,
    asked: BTreeMap<Token, (usize, Asked)>,
    partitions: Vec<Partition>,
    outcomes: BTreeMap<Tag, bool>,
    promised: BTreeMap<Tag, bool>,
    handed_out: BTreeSet<Producer>,
    /// Identities that a newer producer replaced, with the last token before that.
    fenced: BTreeMap<Producer, Token>,
    last_tag: Tag,
    commits: u64,
    crashes: u64,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let server = if random.chance(60) { V2 } else { V0 };
        let mut shell = Shell::new(config(server)).loaded();
        if random.chance(30) {
            // Epochs run out soon.
            shell.init(None).unwrap();
            let record = shell.log.last_mut().unwrap();
            let mut value = TransactionValue::decode(record.value.as_ref().unwrap()).unwrap();
            value.epoch = i16::MAX - 6;
            record.value = Some(value.encode(server.level().min(1)).unwrap());
            shell = Shell::on_log(config(server), shell.log, shell.now_ms, 2_000).loaded();
        }
        shell.auto = false;
        let processes = (0..3).map(|_| Process {
            version: if server == V2 && random.chance(70) {
                V2
            } else {
                V0
            },
            me: None,
            tag: 0,
            waits: false,
            added: false,
            ending: None,
            ended: None,
        });
        let processes = processes.collect();
        Self {
            random,
            server,
            shell,
            processes,
            asked: BTreeMap::new(),
            partitions: (0..PARTITIONS).map(|_| Partition::default()).collect(),
            outcomes: BTreeMap::new(),
            promised: BTreeMap::new(),
            handed_out: BTreeSet::new(),
            fenced: BTreeMap::new(),
            last_tag: 0,
            commits: 0,
            crashes: 0,
        }
    }

    fn act(&mut self) {
        let index = self.random.below(self.processes.len());
        match self.random.below(100) {
            0..30 => self.ask(index),
            30..65 => self.end_write(),
            65..90 => self.end_markers(),
            90..98 => {
                let most_ms = [10, 200, 30_000][self.random.below(3)];
                let ms = self.random.below(most_ms) as i64;
                self.shell.pass(ms);
            }
            _ => self.crash(),
        }
        self.hear();
    }

    fn ask(&mut self, index: usize) {
        let process = &self.processes[index];
        if process.waits {
            return;
        }
        let (version, me, ended) = (process.version, process.me, process.ended);
        let (added, ending) = (process.added, process.ending);
        let alive = self.processes.iter().any(|process| process.me.is_some());
        let what = match (me, ending) {
            // Mostly one producer is at work, so that it gets on.
            (None, _) if alive && self.random.chance(90) => return,
            (None, _) => 0,
            (Some(_), Some(_)) => [0, 9, 9, 9, 9, 9, 9, 9][self.random.below(8)],
            _ if self.random.chance(3) => 0,
            _ if !added && ended.is_none() && self.random.chance(90) => 1,
            _ => 1 + self.random.below(9),
        };
        if what < 6 {
            // From now on a repeated EndTxn may find that others went on.
            let others = if what == 0 {
                0..self.processes.len()
            } else {
                index..index + 1
            };
            self.processes[others]
                .iter_mut()
                .for_each(|process| process.ended = None);
        }
        let (token, asked) = match (me, what) {
            (Some(me), 1..6) => {
                let partitions = vec![self.random.below(PARTITIONS) as i32];
                let token = self.shell.send_add(me, version, &partitions);
                (token, Asked::Add { me, partitions })
            }
            (Some(me), 6..) => {
                let again = ended.filter(|_| self.random.chance(60));
                let (me, committed, again) = match (self.processes[index].ending, again) {
                    (Some((me, committed)), _) => (me, committed, None),
                    (None, Some((me, committed, answer))) => (me, committed, Some(answer)),
                    (None, None) => (me, self.random.chance(60), None),
                };
                if again.is_none() {
                    self.processes[index].ending = Some((me, committed));
                    self.processes[index].ended = None;
                }
                let token = self.shell.send_end(me, version, committed);
                (
                    token,
                    Asked::End {
                        me,
                        committed,
                        again,
                    },
                )
            }
            _ => {
                // Whatever it had is given up.
                let expected = me.filter(|_| self.random.chance(50));
                self.processes[index].me = None;
                self.processes[index].ending = None;
                (self.shell.send_init(20_000, expected), Asked::Init)
            }
        };
        self.processes[index].waits = true;
        self.asked.insert(token, (index, asked));
    }

    fn hear(&mut self) {
        for (token, reply) in std::mem::take(&mut self.shell.replies) {
            let (index, asked) = self
                .asked
                .remove(&token)
                .expect("an answer to an open request");
            self.processes[index].waits = false;
            match (asked, reply) {
                (Asked::Init, Reply::InitProducerId(result)) => {
                    self.hear_init(index, result, token);
                }
                (Asked::Add { me, partitions }, Reply::AddPartitions(result)) => {
                    self.hear_add(index, me, &partitions, result, token);
                }
                (
                    Asked::End {
                        me,
                        committed,
                        again,
                    },
                    Reply::EndTxn(result),
                ) => {
                    self.hear_end(index, (me, committed, again), result, token);
                }
                (_, reply) => panic!("an answer of another kind: {reply:?}"),
            }
        }
    }

    fn assert_not_fenced(&self, me: Producer, token: Token) {
        let fenced_at = self.fenced.get(&me);
        assert!(
            fenced_at.is_none_or(|&before| token <= before),
            "{me:?} was fenced and succeeds"
        );
    }

    fn forget(&mut self, index: usize, error: TransactionError) {
        let gone = [
            TransactionError::ProducerFenced,
            TransactionError::InvalidProducerIdMapping,
            TransactionError::InvalidTxnState,
        ];
        if gone.contains(&error) {
            self.processes[index].me = None;
            self.processes[index].ending = None;
            self.processes[index].ended = None;
        }
    }

    fn hear_init(
        &mut self,
        index: usize,
        result: Result<Producer, TransactionError>,
        token: Token,
    ) {
        let me = match result {
            Ok(me) => me,
            Err(error) => return self.forget(index, error),
        };
        assert_eq!(self.fenced.get(&me), None, "{me:?} comes back");
        self.handed_out.insert(me);
        for &other in self.handed_out.iter().filter(|&&other| other != me) {
            self.fenced.entry(other).or_insert(self.shell.last_token);
        }
        assert!(token <= self.shell.last_token);
        self.last_tag += 1;
        self.processes[index].me = Some(me);
        self.processes[index].tag = self.last_tag;
        self.processes[index].added = false;
    }

    /// The producer writes to what it has added, as far as the partition lets it.
    fn hear_add(
        &mut self,
        index: usize,
        me: Producer,
        partitions: &[i32],
        result: Result<(), TransactionError>,
        token: Token,
    ) {
        if let Err(error) = result {
            return self.forget(index, error);
        }
        self.assert_not_fenced(me, token);
        self.processes[index].added = true;
        let request = add_request(me, V2, partitions);
        for (partition, verified) in self.shell.coordinator.verify_partitions(&request) {
            let log = &mut self.partitions[partition.partition as usize];
            let epoch = log.epochs.entry(me.id).or_insert(me.epoch);
            if verified.is_ok() && *epoch <= me.epoch {
                *epoch = me.epoch;
                let tag = self.processes[index].tag;
                let open = *log.open.entry(me.id).or_insert(tag);
                assert_eq!(open, tag, "two transactions are open in one partition");
            }
        }
    }

    fn hear_end(
        &mut self,
        index: usize,
        (me, committed, again): (Producer, bool, Option<Producer>),
        result: Result<Producer, TransactionError>,
        token: Token,
    ) {
        let process = &mut self.processes[index];
        let answer = match result {
            Ok(answer) => answer,
            Err(TransactionError::ConcurrentTransactions) => return,
            Err(error) => {
                let fenced = self.fenced.contains_key(&me);
                let lost = again.is_some() && !fenced && self.handed_out.contains(&me);
                let temporary = error == TransactionError::CoordinatorNotAvailable;
                assert!(!lost || temporary, "a repeated EndTxn hears {error:?}");
                return self.forget(index, error);
            }
        };
        if let Some(before) = again {
            assert_eq!(answer, before, "a repeated EndTxn hears something else");
            return;
        }
        let tag = process.tag;
        self.last_tag += 1;
        process.tag = self.last_tag;
        process.added = false;
        process.ending = None;
        process.ended = Some((me, committed, answer));
        if answer != Producer::NONE {
            process.me = Some(answer);
            self.handed_out.insert(answer);
        }
        self.assert_not_fenced(me, token);
        self.commits += u64::from(committed);
        self.promised.insert(tag, committed);
        if let Some(&outcome) = self.outcomes.get(&tag) {
            assert_eq!(outcome, committed, "{tag} was promised otherwise");
        }
    }

    fn end_write(&mut self) {
        let Some((&write, _)) = self.shell.open_writes.first_key_value() else {
            return;
        };
        match self.random.below(12) {
            0 => self
                .shell
                .persist(write, Err(PersistError::Unavailable), false),
            1 => self.shell.persist(write, Err(PersistError::TimedOut), true),
            _ => self.shell.persist(write, Ok(()), true),
        }
    }

    fn end_markers(&mut self) {
        let Some((&id, markers)) = self.shell.open_markers.first_key_value() else {
            return;
        };
        let mut markers: Markers = markers.clone();
        let through = self.random.chance(70);
        let reported = through && self.random.chance(80);
        if through {
            self.write_markers(&markers);
        }
        if reported && markers.partitions.len() > 1 && self.random.chance(40) {
            // One partition answers before the others.
            let done = [(markers.partitions.remove(0), MarkerOutcome::Done)];
            self.shell.open_markers.insert(id, markers);
            self.shell.step(|coordinator, now_ms, out| {
                coordinator.markers_written(now_ms, id, &done, out);
            });
        } else {
            let outcome = if reported {
                MarkerOutcome::Done
            } else {
                MarkerOutcome::Retry
            };
            self.shell.mark(id, outcome);
        }
    }

    fn write_markers(&mut self, markers: &Markers) {
        for partition in &markers.partitions {
            let log = &mut self.partitions[partition.partition as usize];
            let epoch = log.epochs.entry(markers.producer.id).or_insert(0);
            if markers.producer.epoch < *epoch {
                continue;
            }
            *epoch = markers.producer.epoch;
            let Some(tag) = log.open.remove(&markers.producer.id) else {
                continue;
            };
            let outcome = *self.outcomes.entry(tag).or_insert(markers.committed);
            assert_eq!(outcome, markers.committed, "{tag} is committed and aborted");
            if let Some(&promised) = self.promised.get(&tag) {
                assert_eq!(outcome, promised, "{tag} was promised otherwise");
            }
        }
    }

    /// The broker dies. What was on its way to the log and to the partitions came through, or not.
    fn crash(&mut self) {
        self.crashes += 1;
        let keep = self.random.below(self.shell.open_writes.len() + 1);
        let writes = std::mem::take(&mut self.shell.open_writes);
        let kept = writes.into_values().take(keep).flatten();
        self.shell.log.extend(kept);
        for (_, mut markers) in std::mem::take(&mut self.shell.open_markers) {
            let written = self.random.below(markers.partitions.len() + 1);
            markers.partitions.truncate(written);
            self.write_markers(&markers);
        }
        self.asked.clear();
        for process in &mut self.processes {
            process.waits = false;
        }
        let log = std::mem::take(&mut self.shell.log);
        let last_token = self.shell.last_token;
        let (now_ms, next_id) = (self.shell.now_ms, self.shell.next_producer_id);
        let mut shell = Shell::on_log(config(self.server), log, now_ms, next_id);
        shell.auto = false;
        shell.last_token = last_token;
        self.shell = shell.loaded();
    }

    /// Everything works again, and nobody asks for anything: time alone ends what is open.
    fn finish(&mut self) {
        for _ in 0..10 {
            self.shell.pass(30_000);
            while let Some((&write, _)) = self.shell.open_writes.first_key_value() {
                self.shell.persist(write, Ok(()), true);
            }
            while let Some((&id, markers)) = self.shell.open_markers.first_key_value() {
                let markers = markers.clone();
                self.write_markers(&markers);
                self.shell.mark(id, MarkerOutcome::Done);
            }
            self.hear();
        }
        assert!(self.asked.is_empty(), "requests stay open");
        if let Ok(described) = self.shell.coordinator.describe_transaction(common::ID) {
            let ended = [
                TransactionState::Empty,
                TransactionState::CompleteCommit,
                TransactionState::CompleteAbort,
            ];
            assert!(ended.contains(&described.state), "{described:?}");
        }
        for log in &self.partitions {
            assert!(log.open.is_empty(), "a transaction hangs: {:?}", log.open);
        }
    }
}

#[test]
fn whatever_happens_the_invariants_hold() {
    struct NameSeed(u64);
    impl Drop for NameSeed {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("failed with DLOG_TRANSACTIONS_SEED={}", self.0);
            }
        }
    }
    let only = std::env::var("DLOG_TRANSACTIONS_SEED")
        .ok()
        .map(|seed| seed.parse::<u64>().unwrap());
    let seeds = only.map_or(0..SEEDS, |seed| seed..seed + 1);
    let (mut commits, mut crashes) = (0, 0);
    for seed in seeds.clone() {
        let named = NameSeed(seed);
        let mut run = Run::new(seed);
        for _ in 0..STEPS {
            run.act();
        }
        run.finish();
        commits += run.commits;
        crashes += run.crashes;
        drop(named);
    }
    println!("seeds {seeds:?}: {commits} commits, {crashes} crashes");
    assert!(
        only.is_some() || (commits > 2 * SEEDS && crashes > 5 * SEEDS),
        "too little happens"
    );
}
