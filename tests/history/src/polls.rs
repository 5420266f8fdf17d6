//! Checks of what one consumer is given: offsets go up, and nothing that others were given is left out.
//! Both within one poll (internal) and from one poll to the next (external). What moves the consumer on
//! purpose begins anew.

use std::collections::HashMap;

use super::finding::{Anomaly, Finding};
use super::index::{Fate, Index, Outcome, Poll, Record, Step};

/// The last offset that is behind a consumer, and the poll that gave it.
type Position = (i64, Option<usize>);

pub fn check(index: &Index<'_>, findings: &mut Vec<Finding>) {
    let mut positions: HashMap<u32, HashMap<usize, Position>> = HashMap::new();
    for step in &index.steps {
        match step {
            Step::Forget { process, kept } => {
                if let Some(own) = positions.get_mut(process) {
                    own.retain(|log, _| kept.contains(log));
                }
            }
            Step::Seek {
                process,
                log,
                offset,
            } => {
                let own = positions.entry(*process).or_default();
                match offset {
                    Some(offset) => own.insert(*log, (offset.saturating_sub(1), None)),
                    None => own.remove(log),
                };
            }
            Step::Poll(number) => {
                let poll = &index.polls[*number];
                let own = positions.entry(poll.process).or_default();
                for (log, records) in &poll.reads {
                    let mut before = own.get(log).copied();
                    for (offset, _) in *records {
                        if let Some(before) = before {
                            let pair = Pair {
                                log: *log,
                                before,
                                offset: *offset,
                                poll: *number,
                            };
                            pair.check(index, findings);
                        }
                        before = Some((*offset, Some(*number)));
                    }
                    if let Some(last) = before {
                        own.insert(*log, last);
                    }
                }
            }
        }
    }
}

/// An offset that a consumer was given, and the one before it.
struct Pair {
    log: usize,
    before: Position,
    offset: i64,
    poll: usize,
}

impl Pair {
    fn check(&self, index: &Index<'_>, findings: &mut Vec<Finding>) {
        let (last, earlier) = self.before;
        let internal = earlier == Some(self.poll);
        let poll = &index.polls[self.poll];
        let name = index.logs[self.log];
        let mut events: Vec<_> = earlier.map(|n| index.polls[n].event).into_iter().collect();
        events.push(poll.event);
        if self.offset <= last {
            let anomaly = if internal {
                Anomaly::InternalNonmonotonicPoll
            } else {
                Anomaly::ExternalNonmonotonicPoll
            };
            let offset = self.offset;
            let what = format!("after offset {last} of {name} was passed, {offset} was given");
            findings.push(Finding::new(anomaly, events, what));
            return;
        }
        let Some(skipped) = self.skipped(index, poll) else {
            return;
        };
        events.push(index.polls[skipped.poll].event);
        let offset = self.offset;
        let what = format!(
            "value {} at offset {} of {name} was given to others, but left out between {last} and {offset}",
            skipped.value, skipped.offset
        );
        let anomaly = if poll.is_committed() && self.shares_txn(index, skipped) {
            Anomaly::PartialRead
        } else if internal {
            Anomaly::InternalSkippedPoll
        } else {
            Anomaly::ExternalSkippedPoll
        };
        findings.push(Finding::new(anomaly, events, what));
    }

    /// The first record between the two that the consumer should have been given.
    fn skipped<'i>(&self, index: &'i Index<'_>, poll: &Poll<'_>) -> Option<&'i Record> {
        let records = &index.records[self.log];
        let begin = records.partition_point(|record| record.offset <= self.before.0);
        let between = records[begin..].iter();
        let mut between = between.take_while(|record| record.offset < self.offset);
        // Ends at the first record that counts; what does not count are aborted records.
        between.find(|record| {
            let send = record.send.map(|send| &index.sends[send]);
            let txn = send.and_then(|send| index.txn_of(send));
            let shown = match (send, txn.map(|txn| txn.fate)) {
                (Some(send), None) => send.outcome != Outcome::Failed,
                (Some(_), Some(Fate::Committed)) => true,
                (Some(_), Some(Fate::Unknown)) => record.poll_committed.is_some(),
                (None, _) | (_, Some(Fate::Aborted | Fate::Open)) => false,
            };
            shown || !poll.is_committed()
        })
    }

    /// Whether one of the records around the gap is of the same transaction as the one in it.
    fn shares_txn(&self, index: &Index<'_>, skipped: &Record) -> bool {
        let txn = |send: Option<usize>| send.and_then(|send| index.sends[send].txn);
        let Some(wanted) = txn(skipped.send) else {
            return false;
        };
        let records = &index.records[self.log];
        [self.before.0, self.offset].iter().any(|offset| {
            let place = records.partition_point(|record| record.offset < *offset);
            let record = records.get(place).filter(|r| r.offset == *offset);
            record.and_then(|record| txn(record.send)) == Some(wanted)
        })
    }
}
