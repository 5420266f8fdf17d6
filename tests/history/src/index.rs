//! Events made into operations. *Beginnings and ends are matched, or the history is refused; all later
//! checks see only whole operations, with logs as numbers.*

use std::collections::{BTreeMap, HashMap};

use super::Malformed;
use super::event::{Event, Op, Phase};
pub use super::operation::{Fate, Offsets, Outcome, Poll, Record, Send, Step, Txn};

/// A history as operations.
#[derive(Debug, Default)]
pub struct Index<'a> {
    pub logs: Vec<&'a str>,
    pub sends: Vec<Send>,
    pub txns: Vec<Txn>,
    pub polls: Vec<Poll<'a>>,
    pub steps: Vec<Step>,
    pub offsets: Vec<Offsets<'a>>,
    /// For each log what was read of it, by offset and value, each pair once.
    pub records: Vec<Vec<Record>>,
    /// For each log the last poll that read it to its end.
    pub ends: Vec<Option<usize>>,
    /// For each log the highest offset that was read under `read_committed`, and the poll.
    pub last_committed: Vec<Option<(i64, usize)>>,
    /// For each transaction the first poll under `read_committed` that had a record of it.
    pub shown: Vec<Option<usize>>,
    log_numbers: HashMap<&'a str, usize>,
    by_value: Vec<HashMap<i64, usize>>,
}

/// What is known of a process while the events are walked.
#[derive(Debug, Default)]
struct Process {
    life: u32,
    txn: Option<usize>,
    poll_invoked: Option<usize>,
    offsets: Option<usize>,
    assigned: Vec<usize>,
}

fn malformed(event: usize, why: impl Into<String>) -> Malformed {
    Malformed {
        event,
        why: why.into(),
    }
}

fn outcome(phase: Phase) -> Outcome {
    match phase {
        Phase::Ok => Outcome::Done,
        Phase::Fail => Outcome::Failed,
        Phase::Invoke | Phase::Info => Outcome::Unknown,
    }
}

impl<'a> Index<'a> {
    /// Makes operations of events.
    pub fn new(events: &'a [Event]) -> Result<Self, Malformed> {
        let mut index = Self::default();
        let mut processes: HashMap<u32, Process> = HashMap::new();
        for (at, event) in events.iter().enumerate() {
            let process = processes.entry(event.process).or_default();
            index.take(at, event, process)?;
        }
        index.settle();
        index.gather_records();
        Ok(index)
    }

    /// The send of a value.
    pub fn send_of(&self, log: usize, value: i64) -> Option<usize> {
        self.by_value.get(log)?.get(&value).copied()
    }

    /// The transaction of a send.
    pub fn txn_of(&self, send: &Send) -> Option<&Txn> {
        send.txn.map(|txn| &self.txns[txn])
    }

    fn log(&mut self, name: &'a str) -> usize {
        if let Some(number) = self.log_numbers.get(name) {
            return *number;
        }
        let number = self.logs.len();
        self.log_numbers.insert(name, number);
        self.logs.push(name);
        self.by_value.push(HashMap::new());
        self.ends.push(None);
        number
    }

    fn take(&mut self, at: usize, event: &'a Event, own: &mut Process) -> Result<(), Malformed> {
        let (process, phase) = (event.process, event.phase);
        match &event.op {
            Op::Send { .. } => self.take_send(at, event, own)?,
            Op::Poll { .. } if phase == Phase::Invoke => own.poll_invoked = Some(at),
            Op::Poll { .. } => self.take_poll(at, event, own),
            Op::Begin | Op::Commit | Op::Abort => self.take_txn(at, event, own)?,
            Op::CommitOffsets { group, offsets } => {
                self.take_offsets(at, phase, own, (group, offsets, false))?;
            }
            Op::Committed { group, offsets } => {
                self.take_offsets(at, phase, own, (group, offsets, true))?;
            }
            // Nothing has moved before the call is through, or when it was refused.
            _ if matches!(phase, Phase::Invoke | Phase::Fail) && !matches!(event.op, Op::Crash) => {
            }
            Op::Assign { logs } => {
                let logs: Vec<_> = logs.iter().map(|log| self.log(log)).collect();
                let kept = logs.iter().copied();
                let kept = kept.filter(|log| own.assigned.contains(log)).collect();
                own.assigned = logs;
                self.steps.push(Step::Forget { process, kept });
            }
            Op::Subscribe { .. } | Op::Rebalance { .. } | Op::Crash => {
                own.assigned.clear();
                let kept = Vec::new();
                self.steps.push(Step::Forget { process, kept });
                if matches!(event.op, Op::Crash) {
                    let life = own.life + 1;
                    *own = Process {
                        life,
                        ..Process::default()
                    };
                }
            }
            Op::Seek { log, offset } => {
                let (log, offset) = (self.log(log), *offset);
                self.steps.push(Step::Seek {
                    process,
                    log,
                    offset,
                });
            }
        }
        Ok(())
    }

    fn take_send(&mut self, at: usize, event: &'a Event, own: &Process) -> Result<(), Malformed> {
        let Op::Send {
            log,
            value,
            offset,
            source,
        } = &event.op
        else {
            return Ok(());
        };
        let log = self.log(log);
        if event.phase == Phase::Invoke {
            let source = source.as_ref().map(|(log, at)| (self.log(log), *at));
            let txn = own.txn.filter(|txn| self.txns[*txn].open);
            if let Some(txn) = txn {
                self.txns[txn].sends.push(self.sends.len());
            }
            if self.by_value[log]
                .insert(*value, self.sends.len())
                .is_some()
            {
                return Err(malformed(at, "this value was sent to this log before"));
            }
            self.sends.push(Send {
                process: event.process,
                life: own.life,
                log,
                value: *value,
                invoked: at,
                ended: None,
                outcome: Outcome::Unknown,
                told: None,
                txn,
                source,
                seen: None,
                seen_committed: None,
            });
            return Ok(());
        }
        let send = self.by_value[log].get(value);
        let send = send.map(|send| &mut self.sends[*send]);
        let send = send.filter(|send| send.process == event.process && send.ended.is_none());
        let send = send.ok_or_else(|| malformed(at, "the end of a send that is not under way"))?;
        send.ended = Some(at);
        send.outcome = outcome(event.phase);
        send.told = offset.filter(|_| event.phase == Phase::Ok);
        Ok(())
    }

    fn take_poll(&mut self, at: usize, event: &'a Event, own: &mut Process) {
        let Op::Poll {
            isolation,
            records,
            ends,
        } = &event.op
        else {
            return;
        };
        let invoked = own.poll_invoked.take().unwrap_or(at);
        if event.phase != Phase::Ok {
            return;
        }
        let number = self.polls.len();
        if let Some(txn) = own.txn.filter(|txn| self.txns[*txn].open) {
            self.txns[txn].polls.push(number);
        }
        let reads = records.iter();
        let reads = reads
            .map(|(log, records)| (self.log(log), records.as_slice()))
            .collect();
        for log in ends {
            let log = self.log(log);
            self.ends[log] = Some(number);
        }
        self.steps.push(Step::Poll(number));
        self.polls.push(Poll {
            process: event.process,
            event: at,
            invoked,
            isolation: *isolation,
            reads,
        });
    }

    fn take_txn(&mut self, at: usize, event: &Event, own: &mut Process) -> Result<(), Malformed> {
        let current = own.txn;
        if matches!(event.op, Op::Begin) && event.phase == Phase::Invoke {
            if current.is_some_and(|txn| self.txns[txn].open) {
                return Err(malformed(at, "the process has an open transaction"));
            }
            own.txn = Some(self.txns.len());
            self.txns.push(Txn {
                began: at,
                commit_invoked: None,
                ended: None,
                fate: Fate::Open,
                sends: Vec::new(),
                polls: Vec::new(),
                open: true,
                doubtful: false,
            });
            return Ok(());
        }
        let txn = current.map(|txn| &mut self.txns[txn]);
        let txn = txn.ok_or_else(|| malformed(at, "the process has no transaction"))?;
        let is_commit = matches!(event.op, Op::Commit);
        match (&event.op, event.phase) {
            (Op::Begin, Phase::Fail) => {
                txn.open = false;
                txn.fate = Fate::Aborted;
                txn.ended = Some(at);
            }
            (Op::Begin, _) => {}
            (_, Phase::Invoke) => {
                txn.open = false;
                if is_commit {
                    txn.commit_invoked.get_or_insert(at);
                }
                if txn.fate == Fate::Open {
                    txn.fate = if is_commit {
                        Fate::Unknown
                    } else {
                        Fate::Aborted
                    };
                }
            }
            (_, Phase::Ok) => {
                let fate = if is_commit {
                    Fate::Committed
                } else {
                    Fate::Aborted
                };
                let other = if is_commit {
                    Fate::Aborted
                } else {
                    Fate::Committed
                };
                if txn.fate == other && txn.commit_invoked.is_some() {
                    return Err(malformed(at, "the transaction has ended the other way"));
                }
                txn.fate = fate;
                txn.ended = Some(at);
            }
            // After one attempt whose outcome is unknown the failure of the next decides nothing.
            (_, Phase::Fail) if is_commit && !txn.doubtful && txn.fate == Fate::Unknown => {
                txn.fate = Fate::Aborted;
                txn.ended = Some(at);
            }
            (_, Phase::Fail) => {}
            (_, Phase::Info) => {
                txn.doubtful |= is_commit;
                txn.ended.get_or_insert(at);
            }
        }
        Ok(())
    }

    fn take_offsets(
        &mut self,
        at: usize,
        phase: Phase,
        own: &mut Process,
        (group, offsets, is_read): (&'a str, &'a BTreeMap<String, i64>, bool),
    ) -> Result<(), Malformed> {
        if phase == Phase::Invoke {
            let offsets = offsets.iter();
            let offsets = offsets.map(|(log, at)| (self.log(log), *at)).collect();
            let txn = own.txn.filter(|txn| self.txns[*txn].open && !is_read);
            own.offsets = Some(self.offsets.len());
            self.offsets.push(Offsets {
                group,
                offsets,
                invoked: at,
                ended: None,
                outcome: Outcome::Unknown,
                txn,
                is_read,
            });
            return Ok(());
        }
        let number = own.offsets.take();
        let number = number.filter(|n| {
            let begun = &self.offsets[*n];
            begun.group == group && begun.is_read == is_read
        });
        let number =
            number.ok_or_else(|| malformed(at, "the end of an operation that is not under way"))?;
        if is_read {
            let offsets = offsets.iter();
            self.offsets[number].offsets = offsets.map(|(log, at)| (self.log(log), *at)).collect();
        }
        let begun = &mut self.offsets[number];
        begun.ended = Some(at);
        begun.outcome = outcome(phase);
        Ok(())
    }

    /// Offsets that were committed within a transaction count from the end of that.
    fn settle(&mut self) {
        for offsets in &mut self.offsets {
            let Some(txn) = offsets.txn.map(|txn| &self.txns[txn]) else {
                continue;
            };
            if offsets.outcome != Outcome::Failed {
                offsets.outcome = match (txn.fate, offsets.outcome) {
                    (Fate::Committed, outcome) => outcome,
                    (Fate::Unknown, _) => Outcome::Unknown,
                    (Fate::Aborted | Fate::Open, _) => Outcome::Failed,
                };
            }
            offsets.invoked = txn.commit_invoked.unwrap_or(offsets.invoked);
            offsets.ended = txn.ended;
        }
    }

    fn gather_records(&mut self) {
        let mut sights: Vec<Vec<(i64, i64, usize)>> = vec![Vec::new(); self.logs.len()];
        for (number, poll) in self.polls.iter().enumerate() {
            for (log, records) in &poll.reads {
                let pairs = records.iter();
                sights[*log].extend(pairs.map(|(offset, value)| (*offset, *value, number)));
            }
        }
        for (log, mut sights) in sights.into_iter().enumerate() {
            sights.sort_unstable();
            let mut records: Vec<Record> = Vec::new();
            for (offset, value, poll) in sights {
                let committed = self.polls[poll].is_committed().then_some(poll);
                match records.last_mut() {
                    Some(last) if (last.offset, last.value) == (offset, value) => {
                        last.poll_committed = last.poll_committed.or(committed);
                    }
                    _ => records.push(Record {
                        offset,
                        value,
                        send: self.send_of(log, value),
                        poll,
                        poll_committed: committed,
                    }),
                }
            }
            for record in &records {
                let Some(send) = record.send.map(|send| &mut self.sends[send]) else {
                    continue;
                };
                send.seen.get_or_insert((record.offset, record.poll));
                send.seen_committed = send.seen_committed.or(record.poll_committed);
            }
            let committed = records.iter().rev();
            let mut committed = committed.filter_map(|r| Some((r.offset, r.poll_committed?)));
            self.last_committed.push(committed.next());
            self.records.push(records);
        }
        self.shown = vec![None; self.txns.len()];
        for send in &self.sends {
            if let (Some(txn), Some(poll)) = (send.txn, send.seen_committed) {
                let first = self.shown[txn].map_or(poll, |other| other.min(poll));
                self.shown[txn] = Some(first);
            }
        }
    }
}
