//! Checks of single records: is each where it should be, once, in order, and seen.

use std::collections::HashMap;

use super::Rules;
use super::finding::{Anomaly, Finding};
use super::index::{Fate, Index, Outcome, Send};
use super::isolation;

pub fn check(index: &Index<'_>, rules: Rules, findings: &mut Vec<Finding>) {
    places(index, rules, findings);
    unsent(index, findings);
    let highest = highest_read(index);
    for (number, send) in index.sends.iter().enumerate() {
        missing(index, &highest, (number, send), findings);
    }
    order_by_time(index, findings);
    if rules.idempotent {
        order_of_producers(index, findings);
    }
}

/// An offset that was read or told, the value, and the event that says so.
type Place = (i64, i64, usize);

/// Duplicates and inconsistent offsets, over what was read and what was told.
fn places(index: &Index<'_>, rules: Rules, findings: &mut Vec<Finding>) {
    let mut told: Vec<Vec<Place>> = vec![Vec::new(); index.logs.len()];
    for send in &index.sends {
        if let Some(offset) = send.told {
            told[send.log].push((offset, send.value, send.event()));
        }
    }
    for (log, mut places) in told.into_iter().enumerate() {
        let name = index.logs[log];
        let records = index.records[log].iter();
        places.extend(records.map(|r| (r.offset, r.value, index.polls[r.poll].event)));
        places.sort_unstable();
        for pair in places.windows(2) {
            let ((offset, a, first), (other, b, second)) = (pair[0], pair[1]);
            if offset == other && a != b {
                let what = format!("offset {offset} of {name} holds value {a} and value {b}");
                findings.push(Finding::new(
                    Anomaly::InconsistentOffset,
                    [first, second],
                    what,
                ));
            }
        }
        if !rules.idempotent {
            continue;
        }
        places.sort_unstable_by_key(|(offset, value, event)| (*value, *offset, *event));
        for pair in places.windows(2) {
            let ((a, value, first), (b, other, second)) = (pair[0], pair[1]);
            if value == other && a != b {
                let what = format!("value {value} is in {name} at offsets {a} and {b}");
                findings.push(Finding::new(Anomaly::Duplicate, [first, second], what));
            }
        }
    }
}

fn unsent(index: &Index<'_>, findings: &mut Vec<Finding>) {
    for (log, records) in index.records.iter().enumerate() {
        for record in records.iter().filter(|record| record.send.is_none()) {
            let what = format!(
                "nobody sent value {} that was read at offset {} of {}",
                record.value, record.offset, index.logs[log]
            );
            let event = index.polls[record.poll].event;
            findings.push(Finding::new(Anomaly::Unsent, [event], what));
        }
    }
}

/// For each log the highest offset that was read, and the poll.
fn highest_read(index: &Index<'_>) -> Vec<Option<(i64, usize)>> {
    let last = |records: &Vec<super::index::Record>| records.last().map(|r| (r.offset, r.poll));
    index.records.iter().map(last).collect()
}

/// Lost and unseen writes. A part of a transaction is the business of `isolation`.
fn missing(
    index: &Index<'_>,
    highest: &[Option<(i64, usize)>],
    (number, send): (usize, &Send),
    findings: &mut Vec<Finding>,
) {
    let txn = index.txn_of(send);
    let must_be_there = send.outcome == Outcome::Done
        && send.seen.is_none()
        && txn.is_none_or(|txn| txn.fate == Fate::Committed);
    if !must_be_there || isolation::missing_part(index, number).is_some() {
        return;
    }
    let name = index.logs[send.log];
    let value = send.value;
    let mut events = vec![send.invoked, send.event()];
    events.extend(txn.map(super::index::Txn::event));
    if let (Some(offset), Some((later, poll))) = (send.told, highest[send.log])
        && later > offset
    {
        events.push(index.polls[poll].event);
        let what = format!(
            "value {value} was acknowledged at offset {offset} of {name} and never read, \
             though offset {later} was"
        );
        findings.push(Finding::new(Anomaly::LostWrite, events, what));
        return;
    }
    let settled = events.iter().copied().max().unwrap_or(0);
    if let Some(end) = index.ends[send.log].map(|poll| &index.polls[poll])
        && end.invoked > settled
    {
        events.push(end.event);
        let what = format!(
            "value {value} was acknowledged by {name} and never read, though it was read to its end \
             afterwards"
        );
        findings.push(Finding::new(Anomaly::UnseenWrite, events, what));
    }
}

/// A send that began after another was acknowledged must be behind it, whoever sent them.
fn order_by_time(index: &Index<'_>, findings: &mut Vec<Finding>) {
    // For each log the acknowledgements that raised the highest offset: event, offset, send.
    let mut raised: Vec<Vec<(usize, i64, usize)>> = vec![Vec::new(); index.logs.len()];
    let mut by_end: Vec<_> = (0..index.sends.len()).collect();
    by_end.retain(|number| index.sends[*number].outcome == Outcome::Done);
    by_end.sort_unstable_by_key(|number| index.sends[*number].ended);
    for number in by_end {
        let send = &index.sends[number];
        let raised = &mut raised[send.log];
        if let (Some(offset), Some(ended)) = (send.offset(), send.ended)
            && raised
                .last()
                .is_none_or(|(_, highest, _)| offset > *highest)
        {
            raised.push((ended, offset, number));
        }
    }
    for send in &index.sends {
        let Some(offset) = send.offset() else {
            continue;
        };
        let raised = &raised[send.log];
        let before = raised.partition_point(|(event, _, _)| *event < send.invoked);
        let Some((_, higher, other)) = before.checked_sub(1).map(|last| raised[last]) else {
            continue;
        };
        if higher > offset {
            let other = &index.sends[other];
            let what = format!(
                "value {} is at offset {offset} of {}, though value {} was acknowledged at {higher} \
                 before it was sent",
                send.value, index.logs[send.log], other.value
            );
            let events = [other.event(), send.invoked, send.event()];
            findings.push(Finding::new(Anomaly::NonmonotonicSend, events, what));
        }
    }
}

/// What one producer has under way together keeps the order in which it was sent.
fn order_of_producers(index: &Index<'_>, findings: &mut Vec<Finding>) {
    // The send with the highest offset so far. What an earlier life of the process left under way may
    // arrive at any time.
    let mut highest: HashMap<(u32, u32, usize), (i64, usize)> = HashMap::new();
    for (number, send) in index.sends.iter().enumerate() {
        let Some(offset) = send.offset() else {
            continue;
        };
        let key = (send.process, send.life, send.log);
        let Some((higher, other)) = highest.insert(key, (offset, number)) else {
            continue;
        };
        if higher < offset {
            continue;
        }
        highest.insert(key, (higher, other));
        let other = &index.sends[other];
        // Else it is a matter of `order_by_time`.
        let together =
            other.ended.is_none_or(|ended| ended > send.invoked) || other.outcome != Outcome::Done;
        if higher > offset && together {
            let what = format!(
                "value {} was sent before value {}, but they are at offsets {higher} and {offset} of {}",
                other.value, send.value, index.logs[send.log]
            );
            let mut events = vec![other.invoked, send.invoked, other.event(), send.event()];
            events.extend(
                [other, send]
                    .iter()
                    .filter_map(|send| send.seen.map(|(_, poll)| index.polls[poll].event)),
            );
            findings.push(Finding::new(Anomaly::Reordered, events, what));
        }
    }
}
