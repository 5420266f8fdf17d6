//! Puts one anomaly into a correct history that ends with readers of everything, to see whether it is found.

use std::collections::{BTreeMap, BTreeSet};

use rand::RngExt;
use rand::rngs::StdRng;

use super::event::{Event, Isolation, Op, Phase};
use super::finding::Anomaly;
use super::index::{Fate, Index, Outcome, Send};

/// Processes that appear only here.
const INTRUDER: u32 = 1_000_000;

/// A value that nobody else sends.
const STRANGE: i64 = i64::MAX;

/// All that can be planted.
pub const ALL: [Anomaly; 18] = [
    Anomaly::Unsent,
    Anomaly::LostWrite,
    Anomaly::UnseenWrite,
    Anomaly::Duplicate,
    Anomaly::InconsistentOffset,
    Anomaly::Reordered,
    Anomaly::NonmonotonicSend,
    Anomaly::AbortedRead,
    Anomaly::DirtyRead,
    Anomaly::PartialRead,
    Anomaly::Cycle,
    Anomaly::InternalNonmonotonicPoll,
    Anomaly::ExternalNonmonotonicPoll,
    Anomaly::InternalSkippedPoll,
    Anomaly::ExternalSkippedPoll,
    Anomaly::OffsetRegression,
    Anomaly::DoubleOutput,
    Anomaly::MissingOutput,
];

/// The history with an anomaly at a random place, or `None` when it has no place for it.
pub fn plant(events: &[Event], anomaly: Anomaly, random: &mut StdRng) -> Option<Vec<Event>> {
    let index = Index::new(events).ok()?;
    let mut planted = events.to_vec();
    let done = match anomaly {
        Anomaly::LostWrite => {
            let victim = pick(random, plain_sends(&index).filter(|s| !is_last(&index, s)))?;
            forget(&mut planted, index.logs[victim.log], victim.value)
        }
        Anomaly::UnseenWrite => {
            // Before the last reader begins, and to a log that it reads to the end.
            let logs = (0..index.logs.len()).filter(|log| index.ends[*log].is_some());
            let log = index.logs[pick(random, logs)?].to_owned();
            let op = Op::Send {
                log,
                value: STRANGE,
                offset: None,
                source: None,
            };
            let begin = index.polls.last()?.invoked;
            planted.splice(begin..begin, both(INTRUDER, &op));
            true
        }
        Anomaly::PartialRead => {
            let victim = pick(random, parts(&index))?;
            forget(&mut planted, index.logs[victim.log], victim.value)
        }
        Anomaly::Reordered | Anomaly::NonmonotonicSend => {
            let together = anomaly == Anomaly::Reordered;
            let (a, b) = pick(random, neighbours(&index, together).into_iter())?;
            swap(&mut planted, index.logs[a.log], (a, b))
        }
        Anomaly::AbortedRead => {
            let txns = index.txns.iter().enumerate();
            let shown =
                txns.filter(|(n, t)| t.fate == Fate::Committed && index.shown[*n].is_some());
            let ended = pick(random, shown.filter_map(|(_, txn)| txn.ended))?;
            planted[ended].phase = Phase::Fail;
            true
        }
        Anomaly::DirtyRead => dirty(&index, &mut planted, random)?,
        Anomaly::MissingOutput => untie(&index, &mut planted, random)?,
        Anomaly::Unsent
        | Anomaly::Duplicate
        | Anomaly::InconsistentOffset
        | Anomaly::InternalNonmonotonicPoll
        | Anomaly::ExternalNonmonotonicPoll
        | Anomaly::InternalSkippedPoll
        | Anomaly::ExternalSkippedPoll => in_a_poll(&mut planted, anomaly, random)?,
        Anomaly::Cycle => {
            planted.extend(circle());
            true
        }
        Anomaly::OffsetRegression => regress(&mut planted, random)?,
        Anomaly::DoubleOutput => {
            let sends = index.sends.iter();
            let outputs = sends.filter(|s| s.source.is_some() && s.seen_committed.is_some());
            let first = pick(random, outputs)?.invoked;
            let mut again = planted[first].op.clone();
            if let Op::Send { value, .. } = &mut again {
                *value = STRANGE;
            }
            let ops = [Op::Begin, again, Op::Commit];
            planted.extend(ops.into_iter().flat_map(|op| both(INTRUDER, &op)));
            true
        }
    };
    done.then_some(planted)
}

fn pick<T>(random: &mut StdRng, from: impl Iterator<Item = T>) -> Option<T> {
    let mut all: Vec<_> = from.collect();
    (!all.is_empty()).then(|| all.swap_remove(random.random_range(0..all.len())))
}

fn both(process: u32, op: &Op) -> [Event; 2] {
    [Phase::Invoke, Phase::Ok].map(|phase| Event::new(process, phase, op.clone()))
}

/// Acknowledged sends outside of transactions that were read.
fn plain_sends<'i>(index: &'i Index<'_>) -> impl Iterator<Item = &'i Send> {
    let sends = index.sends.iter();
    sends.filter(|s| s.txn.is_none() && s.told.is_some() && s.seen.is_some())
}

fn is_last(index: &Index<'_>, send: &Send) -> bool {
    index.records[send.log].last().map(|r| r.offset) == send.told
}

/// Records of transactions that have another record that was shown.
fn parts<'i>(index: &'i Index<'_>) -> impl Iterator<Item = &'i Send> {
    index.sends.iter().filter(|send| {
        let txn = index.txn_of(send).filter(|txn| txn.fate == Fate::Committed);
        send.seen_committed.is_some()
            && !is_last(index, send)
            && txn.is_some_and(|txn| {
                let shown = txn.sends.iter().map(|n| &index.sends[*n]);
                shown.filter(|s| s.seen_committed.is_some()).count() > 1
            })
    })
}

/// Takes a value out of all polls.
fn forget(events: &mut [Event], log: &str, value: i64) -> bool {
    for event in events {
        if let Op::Poll { records, .. } = &mut event.op
            && let Some(records) = records.get_mut(log)
        {
            records.retain(|(_, other)| *other != value);
        }
    }
    true
}

/// Pairs of plain sends to one log: under way together by one producer, or one behind the other.
fn neighbours<'i>(index: &'i Index<'_>, together: bool) -> Vec<(&'i Send, &'i Send)> {
    let sends: Vec<_> = plain_sends(index).collect();
    let mut pairs = Vec::new();
    for (at, first) in sends.iter().enumerate() {
        let later = sends[at + 1..]
            .iter()
            .take(20)
            .filter(|s| s.log == first.log);
        pairs.extend(later.map(|second| (*first, *second)));
    }
    pairs.retain(|(a, b)| {
        let overlap = a.ended.is_some_and(|ended| ended > b.invoked);
        let same = (a.process, a.life) == (b.process, b.life);
        let done = a.outcome == Outcome::Done && b.outcome == Outcome::Done;
        done && overlap == together && (same || !together)
    });
    pairs
}

/// Two records change places, in all answers.
fn swap(events: &mut [Event], log: &str, (a, b): (&Send, &Send)) -> bool {
    let other = |value: i64| match value {
        _ if value == a.value => b.value,
        _ if value == b.value => a.value,
        _ => value,
    };
    for event in events {
        match &mut event.op {
            Op::Poll { records, .. } => {
                for (_, value) in records.get_mut(log).into_iter().flatten() {
                    *value = other(*value);
                }
            }
            Op::Send {
                log: at,
                value,
                offset: Some(offset),
                ..
            } if at == log => {
                let moved = if *value == a.value { b.told } else { a.told };
                if other(*value) != *value {
                    *offset = moved.unwrap_or(*offset);
                }
            }
            _ => {}
        }
    }
    true
}

/// A reader is given a record just before its transaction is committed.
fn dirty(index: &Index<'_>, events: &mut Vec<Event>, random: &mut StdRng) -> Option<bool> {
    let sends = index.sends.iter().filter(|s| s.seen_committed.is_some());
    let sends = sends.filter_map(|s| Some((s, index.txn_of(s)?.commit_invoked?)));
    let (send, commit) = pick(random, sends)?;
    let records = vec![(send.offset()?, send.value)];
    let op = Op::Poll {
        isolation: Isolation::ReadCommitted,
        records: BTreeMap::from([(index.logs[send.log].to_owned(), records)]),
        ends: Vec::new(),
    };
    events.splice(commit..commit, both(INTRUDER, &op));
    Some(true)
}

/// An output forgets its input.
fn untie(index: &Index<'_>, events: &mut [Event], random: &mut StdRng) -> Option<bool> {
    // All outputs of the input go, also those that may be there.
    let committed = index.sends.iter().filter(|s| {
        s.source.is_some() && index.txn_of(s).is_some_and(|t| t.fate == Fate::Committed)
    });
    let input = pick(random, committed)?.source;
    for send in index.sends.iter().filter(|s| s.source == input) {
        if let Op::Send { source, .. } = &mut events[send.invoked].op {
            *source = None;
        }
    }
    // The log must still be known as an input.
    let log = input?.0;
    let others = index.sends.iter().filter(|s| s.source != input);
    Some(others.filter_map(|s| s.source).any(|s| s.0 == log))
}

/// Changes the reader of everything; it is the last event.
fn in_a_poll(events: &mut Vec<Event>, anomaly: Anomaly, random: &mut StdRng) -> Option<bool> {
    let index = Index::new(events).ok()?;
    let of_txns = index.sends.iter().filter(|s| s.txn.is_some());
    let of_txns: BTreeSet<i64> = of_txns.map(|send| send.value).collect();
    let mut last = events.pop()?;
    let process = last.process;
    let Op::Poll { records, .. } = &mut last.op else {
        return None;
    };
    let (log, records) = pick(random, records.iter_mut().filter(|(_, r)| r.len() > 3))?;
    let log = log.clone();
    let skips = matches!(
        anomaly,
        Anomaly::InternalSkippedPoll | Anomaly::ExternalSkippedPoll
    );
    // A gap in a transaction has another name.
    let places = 1..records.len() - 1;
    let at = pick(
        random,
        places.filter(|at| !skips || !of_txns.contains(&records[*at].1)),
    )?;
    let behind = records.last()?.0 + 1;
    // The reader reads in two polls, and the second is not where the first ended.
    let mut rest = None;
    match anomaly {
        Anomaly::Unsent => records[at].1 = STRANGE,
        Anomaly::Duplicate => records.push((behind, records[at].1)),
        Anomaly::InconsistentOffset => records[at].1 = records[at - 1].1,
        Anomaly::InternalNonmonotonicPoll => records.swap(at, at + 1),
        Anomaly::InternalSkippedPoll => drop(records.remove(at)),
        Anomaly::ExternalNonmonotonicPoll => rest = Some(records[at - 1..].to_vec()),
        Anomaly::ExternalSkippedPoll => rest = Some(records[at + 1..].to_vec()),
        _ => return None,
    }
    if rest.is_some() {
        records.truncate(at);
    }
    events.push(last);
    let next = rest.map(|rest| Op::Poll {
        isolation: Isolation::ReadCommitted,
        records: BTreeMap::from([(log, rest)]),
        ends: Vec::new(),
    });
    events.extend(next.map(|op| Event::new(process, Phase::Ok, op)));
    Some(true)
}

/// Two transactions that read each other.
fn circle() -> Vec<Event> {
    let logs = ["circle-0", "circle-1"];
    let send = |side: usize| Op::Send {
        log: logs[side].to_owned(),
        value: 1,
        offset: None,
        source: None,
    };
    let poll = |side: usize| Op::Poll {
        isolation: Isolation::ReadCommitted,
        records: BTreeMap::from([(logs[1 - side].to_owned(), vec![(0, 1)])]),
        ends: Vec::new(),
    };
    let mut events = Vec::new();
    let steps: [&dyn Fn(usize) -> Op; 4] = [&|_| Op::Begin, &send, &poll, &|_| Op::Commit];
    for step in steps {
        for side in 0..2 {
            events.extend(both(INTRUDER + side as u32, &step(side)));
        }
    }
    events
}

/// A group commits the offset 0 after another.
fn regress(events: &mut Vec<Event>, random: &mut StdRng) -> Option<bool> {
    let index = Index::new(events).ok()?;
    let done = index.offsets.iter().filter(|o| o.outcome == Outcome::Done);
    let higher = done.filter(|o| o.offsets.iter().any(|(_, offset)| *offset > 0));
    let (log, _) = *pick(random, higher)?.offsets.iter().find(|(_, o)| *o > 0)?;
    let commits = index.offsets.iter().map(|o| o.group.to_owned());
    let op = Op::CommitOffsets {
        group: pick(random, commits)?,
        offsets: BTreeMap::from([(index.logs[log].to_owned(), 0)]),
    };
    events.extend(both(INTRUDER, &op));
    Some(true)
}
