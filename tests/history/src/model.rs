//! Correct histories from a seed: a small log in memory, with transactions, and clients that use it at the
//! same time, lose answers and crash. *A history of it has no anomaly; one that is found is the checker's
//! fault.*

use std::collections::{BTreeMap, VecDeque};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::event::{Event, Isolation, Op, Phase};

/// Logs: clients write to the first ones, and one is made of the first by transforming it.
const LOGS: [&str; 4] = ["in-0", "in-1", "other-0", "out-0"];
const INPUTS: [usize; 2] = [0, 1];
const OUTPUT: usize = 3;

/// Group of the transforming client.
const GROUP: &str = "transformers";

/// Sends that a producer has under way together.
const MAX_IN_FLIGHT: usize = 5;

/// Records of one poll.
const MAX_POLLED: usize = 6;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    Committed,
    Aborted,
}

/// What is at an offset: a value and its transaction, or a marker that ends one.
#[derive(Clone, Copy, Debug)]
struct Slot {
    value: Option<i64>,
    txn: Option<usize>,
}

#[derive(Debug, Default)]
struct Logs {
    slots: [Vec<Slot>; LOGS.len()],
    txns: Vec<State>,
    next_value: i64,
}

impl Logs {
    fn append(&mut self, log: usize, value: i64, txn: Option<usize>) -> i64 {
        let value = Some(value);
        self.slots[log].push(Slot { value, txn });
        self.slots[log].len() as i64 - 1
    }

    fn end_txn(&mut self, txn: usize, state: State) {
        self.txns[txn] = state;
        for slots in &mut self.slots {
            if slots.iter().any(|slot| slot.txn == Some(txn)) {
                let (value, txn) = (None, None);
                slots.push(Slot { value, txn });
            }
        }
    }

    /// What a reader at `position` is given, and where it is then.
    fn read(
        &self,
        log: usize,
        position: usize,
        isolation: Isolation,
        most: usize,
    ) -> (Vec<(i64, i64)>, usize) {
        let mut records = Vec::new();
        let mut at = position;
        while let Some(slot) = self.slots[log].get(at)
            && records.len() < most
        {
            let state = slot.txn.map(|txn| self.txns[txn]);
            let committed = isolation == Isolation::ReadCommitted;
            if committed && state == Some(State::Open) {
                break;
            }
            if let Some(value) = slot.value
                && !(committed && state == Some(State::Aborted))
            {
                records.push((at as i64, value));
            }
            at += 1;
        }
        (records, at)
    }
}

/// A client, with what it has under way.
#[derive(Debug)]
enum Client {
    /// Pipelined sends without transactions: value, and whether and where it was written.
    Producer {
        pending: VecDeque<(usize, i64)>,
        written: VecDeque<(usize, i64, i64)>,
    },
    /// A transaction, its records so far, and how many are to be.
    Transactional { txn: Option<usize>, left: usize },
    /// Consumes, transforms and produces: positions, and the transaction.
    Transformer { positions: [usize; 2] },
    Reader {
        isolation: Isolation,
        positions: [usize; LOGS.len()],
        polling: bool,
    },
}

struct Model {
    logs: Logs,
    events: Vec<Event>,
    random: StdRng,
    group: [usize; 2],
}

/// A history of about `events` events.
pub fn generate(seed: u64, events: usize) -> Vec<Event> {
    let random = StdRng::seed_from_u64(seed);
    let mut model = Model {
        logs: Logs::default(),
        events: Vec::new(),
        random,
        group: [0; 2],
    };
    let mut clients: Vec<Client> = Vec::new();
    for _ in 0..2 {
        clients.push(Client::Producer {
            pending: VecDeque::new(),
            written: VecDeque::new(),
        });
        clients.push(Client::Transactional { txn: None, left: 0 });
    }
    clients.push(Client::Transformer { positions: [0; 2] });
    for isolation in [
        Isolation::ReadUncommitted,
        Isolation::ReadCommitted,
        Isolation::ReadCommitted,
    ] {
        clients.push(Client::Reader {
            isolation,
            positions: [0; LOGS.len()],
            polling: false,
        });
    }
    while model.events.len() < events {
        let chosen = model.random.random_range(0..clients.len());
        model.step(chosen as u32, &mut clients[chosen]);
    }
    model.finish(clients.len() as u32, &clients);
    model.events
}

impl Model {
    fn record(&mut self, process: u32, phase: Phase, op: Op) {
        self.events.push(Event::new(process, phase, op));
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.random.random_range(0..100) < percent
    }

    fn value(&mut self) -> i64 {
        self.logs.next_value += 1;
        self.logs.next_value
    }

    fn step(&mut self, process: u32, client: &mut Client) {
        match client {
            Client::Producer { pending, written } => self.produce(process, pending, written),
            Client::Transactional { txn, left } => self.transact(process, txn, left),
            Client::Transformer { positions } => self.transform(process, positions),
            Client::Reader {
                isolation,
                positions,
                polling,
            } => self.poll(process, *isolation, positions, polling),
        }
    }

    fn produce(
        &mut self,
        process: u32,
        pending: &mut VecDeque<(usize, i64)>,
        written: &mut VecDeque<(usize, i64, i64)>,
    ) {
        match self.random.random_range(0..3) {
            0 if pending.len() + written.len() < MAX_IN_FLIGHT => {
                let (log, value) = (self.random.random_range(0..OUTPUT), self.value());
                pending.push_back((log, value));
                self.record(process, Phase::Invoke, send(log, value, None, None));
            }
            1 => {
                let Some((log, value)) = pending.pop_front() else {
                    return;
                };
                if self.chance(4) {
                    self.record(process, Phase::Fail, send(log, value, None, None));
                } else if self.chance(4) {
                    self.record(process, Phase::Info, send(log, value, None, None));
                } else {
                    let offset = self.logs.append(log, value, None);
                    written.push_back((log, value, offset));
                }
            }
            _ => {
                if self.chance(2) {
                    // Some of it is written, and nobody hears of it.
                    pending.clear();
                    written.clear();
                    self.record(process, Phase::Info, Op::Crash);
                } else if let Some((log, value, offset)) = written.pop_front() {
                    let lost = self.chance(5);
                    let phase = if lost { Phase::Info } else { Phase::Ok };
                    let told = (!lost && !self.chance(5)).then_some(offset);
                    self.record(process, phase, send(log, value, told, None));
                }
            }
        }
    }

    fn begin(&mut self, process: u32) -> usize {
        self.record(process, Phase::Invoke, Op::Begin);
        self.record(process, Phase::Ok, Op::Begin);
        self.logs.txns.push(State::Open);
        self.logs.txns.len() - 1
    }

    fn transact(&mut self, process: u32, txn: &mut Option<usize>, left: &mut usize) {
        let Some(open) = *txn else {
            *txn = Some(self.begin(process));
            *left = self.random.random_range(1..6);
            return;
        };
        if self.chance(2) {
            // The log gives up on it.
            self.record(process, Phase::Info, Op::Crash);
            self.logs.end_txn(open, State::Aborted);
            *txn = None;
        } else if *left > 0 {
            *left -= 1;
            let (log, value) = (self.random.random_range(0..OUTPUT), self.value());
            self.record(process, Phase::Invoke, send(log, value, None, None));
            let offset = self.logs.append(log, value, Some(open));
            self.record(process, Phase::Ok, send(log, value, Some(offset), None));
        } else {
            self.end(process, open);
            *txn = None;
        }
    }

    /// Ends a transaction one way or the other; whether it is committed, and the client knows.
    fn end(&mut self, process: u32, txn: usize) -> bool {
        if self.chance(20) {
            self.record(process, Phase::Invoke, Op::Abort);
            self.logs.end_txn(txn, State::Aborted);
            self.record(process, Phase::Ok, Op::Abort);
            return false;
        }
        self.record(process, Phase::Invoke, Op::Commit);
        let unknown = self.chance(8);
        let state = if unknown && self.chance(50) {
            State::Aborted
        } else {
            State::Committed
        };
        self.logs.end_txn(txn, state);
        let phase = if unknown { Phase::Info } else { Phase::Ok };
        self.record(process, phase, Op::Commit);
        state == State::Committed
    }

    fn transform(&mut self, process: u32, positions: &mut [usize; 2]) {
        let which = self.random.random_range(0..INPUTS.len());
        let log = INPUTS[which];
        let isolation = Isolation::ReadCommitted;
        self.record(process, Phase::Invoke, poll(isolation, Vec::new()));
        let (records, next) = self.logs.read(log, positions[which], isolation, MAX_POLLED);
        let given = vec![(log, records.clone())];
        self.record(process, Phase::Ok, poll(isolation, given));
        if records.is_empty() {
            return;
        }
        let txn = self.begin(process);
        for (offset, _) in records {
            let (value, source) = (self.value(), Some((LOGS[log].to_owned(), offset)));
            let invoke = send(OUTPUT, value, None, source.clone());
            self.record(process, Phase::Invoke, invoke);
            let at = self.logs.append(OUTPUT, value, Some(txn));
            self.record(process, Phase::Ok, send(OUTPUT, value, Some(at), source));
        }
        let offsets = BTreeMap::from([(LOGS[log].to_owned(), next as i64)]);
        for phase in [Phase::Invoke, Phase::Ok] {
            let (group, offsets) = (GROUP.to_owned(), offsets.clone());
            self.record(process, phase, Op::CommitOffsets { group, offsets });
        }
        if self.end(process, txn) {
            self.group[which] = next;
        }
        // Goes on from what the group has committed, as after an error.
        if self.group[which] != next {
            let offset = Some(self.group[which] as i64);
            let log = LOGS[log].to_owned();
            self.record(process, Phase::Ok, Op::Seek { log, offset });
        }
        positions[which] = self.group[which];
    }

    fn poll(
        &mut self,
        process: u32,
        isolation: Isolation,
        positions: &mut [usize; LOGS.len()],
        polling: &mut bool,
    ) {
        if !*polling {
            if self.chance(3) {
                let log = self.random.random_range(0..LOGS.len());
                let offset = self.random.random_range(0..=self.logs.slots[log].len());
                positions[log] = offset;
                let (log, offset) = (LOGS[log].to_owned(), Some(offset as i64));
                self.record(process, Phase::Ok, Op::Seek { log, offset });
            } else if self.chance(1) {
                *positions = [0; LOGS.len()];
                let logs = LOGS.iter().map(|log| (*log).to_owned()).collect();
                self.record(process, Phase::Ok, Op::Rebalance { logs });
            }
            self.record(process, Phase::Invoke, poll(isolation, Vec::new()));
            *polling = true;
            return;
        }
        *polling = false;
        let mut given = Vec::new();
        for (log, position) in positions.iter_mut().enumerate() {
            let (records, next) = self.logs.read(log, *position, isolation, MAX_POLLED);
            *position = next;
            if !records.is_empty() {
                given.push((log, records));
            }
        }
        self.record(process, Phase::Ok, poll(isolation, given));
    }

    /// Ends what is open, and reads every log from begin to end, under both isolations.
    fn finish(&mut self, readers: u32, clients: &[Client]) {
        for (process, client) in (0..).zip(clients) {
            if let Client::Transactional {
                txn: Some(open), ..
            } = client
            {
                self.end(process, *open);
            }
        }
        for (reader, isolation) in [
            (readers, Isolation::ReadUncommitted),
            (readers + 1, Isolation::ReadCommitted),
        ] {
            let all = |log| self.logs.read(log, 0, isolation, usize::MAX).0;
            let given: Vec<_> = (0..LOGS.len()).map(|log| (log, all(log))).collect();
            self.record(reader, Phase::Invoke, poll(isolation, Vec::new()));
            let mut op = poll(isolation, given);
            if let Op::Poll { ends, .. } = &mut op {
                *ends = LOGS.iter().map(|log| (*log).to_owned()).collect();
            }
            self.record(reader, Phase::Ok, op);
        }
    }
}

fn send(log: usize, value: i64, offset: Option<i64>, source: Option<(String, i64)>) -> Op {
    Op::Send {
        log: LOGS[log].to_owned(),
        value,
        offset,
        source,
    }
}

fn poll(isolation: Isolation, given: Vec<(usize, Vec<(i64, i64)>)>) -> Op {
    let records = given.into_iter();
    Op::Poll {
        isolation,
        records: records
            .map(|(log, records)| (LOGS[log].to_owned(), records))
            .collect(),
        ends: Vec::new(),
    }
}
