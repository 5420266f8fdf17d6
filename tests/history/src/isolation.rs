//! Checks of what readers are shown of transactions: nothing that was aborted (G1a), nothing that is open,
//! never a part (G1b).

use super::finding::{Anomaly, Finding};
use super::index::{Fate, Index, Outcome};

/// `explained` are pairs of a poll and a transaction: reads that a cycle names already.
pub fn check(index: &Index<'_>, explained: &[(usize, usize)], findings: &mut Vec<Finding>) {
    for (number, send) in index.sends.iter().enumerate() {
        if let Some(poll) = missing_part(index, number) {
            let what = format!(
                "other records of the transaction were shown, but value {} of {} never, and the log was \
                 read beyond it",
                send.value, index.logs[send.log]
            );
            let txn = index.txn_of(send).map(super::index::Txn::event);
            let shown = send.txn.and_then(|txn| index.shown[txn]);
            let mut events = vec![send.event()];
            events.extend(txn);
            events.extend(shown.map(|poll| index.polls[poll].event));
            events.push(index.polls[poll].event);
            findings.push(Finding::new(Anomaly::PartialRead, events, what));
        }
        if send.outcome == Outcome::Failed
            && let Some((offset, poll)) = send.seen
        {
            let what = format!(
                "the send of value {} failed, but it was read at offset {offset} of {}",
                send.value, index.logs[send.log]
            );
            let events = [send.event(), index.polls[poll].event];
            findings.push(Finding::new(Anomaly::AbortedRead, events, what));
        } else if let (Some(txn), Some(poll)) = (send.txn, send.seen_committed)
            && !explained.contains(&(poll, txn))
        {
            of_transaction(index, number, (txn, poll), findings);
        }
    }
}

/// A record of a transaction that was read under `read_committed`.
fn of_transaction(
    index: &Index<'_>,
    send: usize,
    (txn, poll): (usize, usize),
    findings: &mut Vec<Finding>,
) {
    let (txn, poll) = (&index.txns[txn], &index.polls[poll]);
    let send = &index.sends[send];
    let (value, name) = (send.value, index.logs[send.log]);
    let events = [txn.began, send.event(), poll.event, txn.event()];
    if txn.fate == Fate::Aborted {
        let what = format!(
            "the transaction of value {value} in {name} was aborted, but a reader of committed data had it"
        );
        findings.push(Finding::new(Anomaly::AbortedRead, events, what));
    } else if txn.commit_invoked.is_none_or(|commit| poll.event < commit) {
        let what = format!(
            "the transaction of value {value} in {name} was open, but a reader of committed data had it"
        );
        findings.push(Finding::new(Anomaly::DirtyRead, events, what));
    }
}

/// Whether a record was left out while others of its transaction were shown: the poll that passed it.
pub fn missing_part(index: &Index<'_>, send: usize) -> Option<usize> {
    let send = &index.sends[send];
    let txn = send.txn?;
    if send.outcome != Outcome::Done || send.seen_committed.is_some() || !index.txns[txn].may_show()
    {
        return None;
    }
    let decided = index.shown[txn]?;
    let passed = send.told.and_then(|offset| {
        let (last, poll) = index.last_committed[send.log]?;
        (last > offset).then_some(poll)
    });
    passed.or_else(|| {
        // To the end, after it was known that the transaction is committed.
        let end = index.ends[send.log]?;
        let poll = &index.polls[end];
        let settled = index.polls[decided].event.max(send.event());
        (poll.is_committed() && poll.invoked > settled).then_some(end)
    })
}
