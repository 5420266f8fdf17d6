//! Checks of consumer groups: committed offsets never go back, and what is consumed, transformed and
//! produced within transactions has exactly one committed output for each input.

use std::collections::BTreeMap;

use super::finding::{Anomaly, Finding};
use super::index::{Fate, Index, Outcome, Send};

pub fn check(index: &Index<'_>, findings: &mut Vec<Finding>) {
    regressions(index, findings);
    outputs(index, findings);
}

/// A commit, or an answer, that began after a higher offset was acknowledged.
fn regressions(index: &Index<'_>, findings: &mut Vec<Finding>) {
    // For each group and log the commits that raised the offset: event, offset.
    let mut raised: BTreeMap<(&str, usize), Vec<(usize, i64)>> = BTreeMap::new();
    let mut done: Vec<_> = index.offsets.iter().collect();
    done.retain(|offsets| offsets.outcome == Outcome::Done);
    done.sort_by_key(|offsets| offsets.ended);
    for commit in done.iter().filter(|offsets| !offsets.is_read) {
        for (log, offset) in &commit.offsets {
            let raised = raised.entry((commit.group, *log)).or_default();
            if let Some(ended) = commit.ended
                && raised.last().is_none_or(|(_, highest)| offset > highest)
            {
                raised.push((ended, *offset));
            }
        }
    }
    for later in done {
        for (log, offset) in &later.offsets {
            let Some(raised) = raised.get(&(later.group, *log)) else {
                continue;
            };
            let before = raised.partition_point(|(event, _)| *event < later.invoked);
            let Some((event, higher)) = before.checked_sub(1).map(|last| raised[last]) else {
                continue;
            };
            if higher > *offset {
                let what = format!(
                    "group {} had committed offset {higher} of {}, and afterwards {} {offset}",
                    later.group,
                    index.logs[*log],
                    if later.is_read {
                        "was told"
                    } else {
                        "committed"
                    }
                );
                let events = [event, later.invoked, later.ended.unwrap_or(later.invoked)];
                findings.push(Finding::new(Anomaly::OffsetRegression, events, what));
            }
        }
    }
}

/// Whether a record is surely there for a reader of committed data.
fn is_there(index: &Index<'_>, send: &Send) -> bool {
    let txn = index.txn_of(send);
    match txn.map(|txn| txn.fate) {
        None => send.outcome == Outcome::Done || send.seen.is_some(),
        Some(Fate::Committed) => send.outcome == Outcome::Done || send.seen.is_some(),
        Some(_) => send.seen_committed.is_some() && txn.is_some_and(|txn| txn.may_show()),
    }
}

/// Whether a record may be there.
fn may_be_there(index: &Index<'_>, send: &Send) -> bool {
    let txn = index.txn_of(send);
    send.outcome != Outcome::Failed && txn.is_none_or(|txn| txn.may_show())
}

/// The outputs of an input, each with the group whose offsets its transaction commits, if it does.
type Outputs<'a> = Vec<(Option<&'a str>, &'a Send)>;

/// For each transaction the group whose offsets it commits.
fn groups_of_txns<'a>(index: &Index<'a>) -> BTreeMap<usize, &'a str> {
    let commits = index.offsets.iter().filter(|offsets| !offsets.is_read);
    commits.filter_map(|o| Some((o.txn?, o.group))).collect()
}

/// Several groups may make outputs of one input, each its own; one of which the group is not known counts for
/// each of them.
fn of_group<'a>(outputs: &Outputs<'a>, group: Option<&str>) -> Vec<&'a Send> {
    let own = outputs
        .iter()
        .filter(|(of, _)| of.is_none() || *of == group);
    own.map(|(_, send)| *send).collect()
}

fn outputs(index: &Index<'_>, findings: &mut Vec<Finding>) {
    let groups = groups_of_txns(index);
    let mut by_input: BTreeMap<(usize, i64), Outputs<'_>> = BTreeMap::new();
    let mut is_input = vec![false; index.logs.len()];
    for send in &index.sends {
        if let Some(input) = send.source {
            is_input[input.0] = true;
            let group = send.txn.and_then(|txn| groups.get(&txn).copied());
            by_input.entry(input).or_default().push((group, send));
        }
    }
    for ((log, offset), outputs) in &by_input {
        let mut groups: Vec<_> = outputs.iter().map(|(group, _)| *group).collect();
        groups.sort_unstable();
        groups.dedup();
        // With a known group those without one are judged in its company.
        groups.retain(|group| group.is_some() || outputs.iter().all(|(of, _)| of.is_none()));
        for group in groups {
            let own = of_group(outputs, group);
            double(index, (*log, *offset), &own, findings);
        }
    }
    missing(index, &by_input, &is_input, findings);
}

fn double(
    index: &Index<'_>,
    (log, offset): (usize, i64),
    outputs: &[&Send],
    findings: &mut Vec<Finding>,
) {
    let sure: Vec<_> = outputs.iter().filter(|s| is_there(index, s)).collect();
    let [first, second, ..] = sure.as_slice() else {
        return;
    };
    let what = format!(
        "offset {offset} of {} has {} committed outputs: value {} of {} and value {} of {}",
        index.logs[log],
        sure.len(),
        first.value,
        index.logs[first.log],
        second.value,
        index.logs[second.log]
    );
    let mut events = Vec::new();
    for send in [first, second] {
        events.extend([send.invoked, send.event()]);
        events.extend(index.txn_of(send).map(super::index::Txn::event));
    }
    findings.push(Finding::new(Anomaly::DoubleOutput, events, what));
}

fn missing(
    index: &Index<'_>,
    by_input: &BTreeMap<(usize, i64), Outputs<'_>>,
    is_input: &[bool],
    findings: &mut Vec<Finding>,
) {
    for ((group, log), (end, commit)) in consumed(index) {
        if !is_input[log] {
            continue;
        }
        for record in &index.records[log] {
            let Some(send) = record.send.map(|send| &index.sends[send]) else {
                continue;
            };
            let outputs = by_input.get(&(log, record.offset));
            let outputs = outputs.map(|outputs| of_group(outputs, Some(group)));
            let outputs = outputs.unwrap_or_default();
            let has_output = outputs.iter().any(|s| may_be_there(index, s));
            if record.offset < end && is_there(index, send) && !has_output {
                let what = format!(
                    "offset {} of {} was consumed (group {group} committed up to {end}), but has no \
                     committed output",
                    record.offset, index.logs[log]
                );
                let mut events = vec![index.polls[record.poll].event];
                events.extend(outputs.iter().map(|s| s.event()));
                events.push(commit);
                findings.push(Finding::new(Anomaly::MissingOutput, events, what));
            }
        }
    }
}

/// For each group and log up to where transactions have consumed it, and the event that says so.
fn consumed<'a>(index: &Index<'a>) -> BTreeMap<(&'a str, usize), (i64, usize)> {
    let mut consumed: BTreeMap<(&str, usize), (i64, usize)> = BTreeMap::new();
    let commits = index.offsets.iter();
    for commit in commits.filter(|o| o.txn.is_some() && o.outcome == Outcome::Done) {
        for (log, offset) in &commit.offsets {
            let event = commit.ended.unwrap_or(commit.invoked);
            let highest = consumed.entry((commit.group, *log));
            let highest = highest.or_insert((*offset, event));
            if *offset > highest.0 {
                *highest = (*offset, event);
            }
        }
    }
    consumed
}
