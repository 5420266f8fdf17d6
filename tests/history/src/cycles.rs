//! Transactions that depend on each other in a circle (G1c).
//!
//! An edge `wr` goes from a transaction to one that read what it wrote, an edge `ww` (when asked for) from
//! the writer of a record to the writer of the next one in the same log. Each strongly connected component
//! is reported once, with its shortest cycle and the reason of each edge.

use std::collections::{BTreeMap, VecDeque};

use super::Rules;
use super::finding::{Anomaly, Finding};
use super::index::{Fate, Index, Send};

/// Transactions of one component from which its shortest cycle is looked for: bounds the time that a
/// thoroughly broken history takes.
const MAX_STARTS: usize = 256;

/// Why one transaction comes before another.
#[derive(Clone, Debug)]
struct Edge {
    /// `wr` or `ww`.
    kind: &'static str,
    log: usize,
    value: i64,
    events: Vec<usize>,
    /// The poll that read it.
    poll: Option<usize>,
}

/// For each transaction those that come after it.
type Graph = Vec<BTreeMap<usize, Edge>>;

/// Adds the findings; gives the reads in them, as pairs of a poll and the transaction that was read.
pub fn check(index: &Index<'_>, rules: Rules, findings: &mut Vec<Finding>) -> Vec<(usize, usize)> {
    let mut graph: Graph = vec![BTreeMap::new(); index.txns.len()];
    add_reads(index, &mut graph);
    add_sources(index, &mut graph);
    if rules.write_order {
        add_writes(index, &mut graph);
    }
    let mut explained = Vec::new();
    for component in components(&graph) {
        let cycle = shortest(&graph, &component);
        let next = cycle.iter().cycle().skip(1);
        let mut events = Vec::new();
        let mut reasons = Vec::new();
        for (from, to) in cycle.iter().zip(next) {
            let Some(edge) = graph[*from].get(to) else {
                continue;
            };
            reasons.push(format!(
                "T{from} -{}-> T{to} by value {} of {}",
                edge.kind, edge.value, index.logs[edge.log]
            ));
            events.push(index.txns[*from].began);
            events.extend(&edge.events);
            events.push(index.txns[*from].event());
            explained.extend(edge.poll.map(|poll| (poll, *from)));
        }
        let what = format!(
            "{} (one of {} transactions that are in cycles together)",
            reasons.join(", "),
            component.len()
        );
        findings.push(Finding::new(Anomaly::Cycle, events, what));
    }
    explained
}

/// Only what took effect, or may have.
fn counts(index: &Index<'_>, txn: usize) -> bool {
    index.txns[txn].fate != Fate::Aborted
}

fn add(index: &Index<'_>, graph: &mut Graph, (from, to): (usize, usize), edge: Edge) {
    if from != to && counts(index, from) && counts(index, to) {
        graph[from].entry(to).or_insert(edge);
    }
}

/// What a transaction polled under `read_committed`. Without that anybody may read what is open.
fn add_reads(index: &Index<'_>, graph: &mut Graph) {
    for (reader, txn) in index.txns.iter().enumerate() {
        let polls = txn
            .polls
            .iter()
            .map(|number| (*number, &index.polls[*number]));
        for (number, poll) in polls.filter(|(_, poll)| poll.is_committed()) {
            for (log, value) in poll
                .reads
                .iter()
                .flat_map(|(log, records)| records.iter().map(|(_, value)| (*log, *value)))
            {
                let send = index.send_of(log, value).map(|send| &index.sends[send]);
                let Some((send, writer)) = send.and_then(|send| Some((send, send.txn?))) else {
                    continue;
                };
                let edge = Edge {
                    kind: "wr",
                    log,
                    value,
                    events: vec![send.event(), poll.event],
                    poll: Some(number),
                };
                add(index, graph, (writer, reader), edge);
            }
        }
    }
}

/// An output tells of an input that was read, wherever the poll was.
fn add_sources(index: &Index<'_>, graph: &mut Graph) {
    for output in &index.sends {
        let (Some(reader), Some((log, offset))) = (output.txn, output.source) else {
            continue;
        };
        let records = &index.records[log];
        let place = records.partition_point(|record| record.offset < offset);
        let record = records.get(place).filter(|r| r.offset == offset);
        let input =
            record.and_then(|record| Some((&index.sends[record.send?], record.poll_committed?)));
        let Some((input, poll, writer)) = input.and_then(|(s, poll)| Some((s, poll, s.txn?)))
        else {
            continue;
        };
        let edge = Edge {
            kind: "wr",
            log,
            value: input.value,
            events: vec![input.event(), output.invoked],
            poll: Some(poll),
        };
        add(index, graph, (writer, reader), edge);
    }
}

/// The order of the logs.
fn add_writes(index: &Index<'_>, graph: &mut Graph) {
    let mut logs: Vec<Vec<(i64, &Send, usize)>> = vec![Vec::new(); index.logs.len()];
    for send in &index.sends {
        if let (Some(offset), Some(txn)) = (send.offset(), send.txn)
            && counts(index, txn)
        {
            logs[send.log].push((offset, send, txn));
        }
    }
    for (log, mut writes) in logs.into_iter().enumerate() {
        writes.sort_unstable_by_key(|(offset, send, _)| (*offset, send.invoked));
        for pair in writes.windows(2) {
            let ((_, first, from), (_, second, to)) = (pair[0], pair[1]);
            let edge = Edge {
                kind: "ww",
                log,
                value: second.value,
                events: vec![first.event(), second.event()],
                poll: None,
            };
            add(index, graph, (from, to), edge);
        }
    }
}

/// Strongly connected components of more than one transaction, by Tarjan's method without recursion.
fn components(graph: &Graph) -> Vec<Vec<usize>> {
    const UNSEEN: usize = usize::MAX;
    let mut order = vec![UNSEEN; graph.len()];
    let mut low = vec![0; graph.len()];
    let mut is_open = vec![false; graph.len()];
    let (mut stack, mut found, mut next) = (Vec::new(), Vec::new(), 0);
    for root in 0..graph.len() {
        if order[root] != UNSEEN {
            continue;
        }
        let mut path = vec![(root, graph[root].keys())];
        (order[root], low[root], is_open[root]) = (next, next, true);
        next += 1;
        stack.push(root);
        while let Some((at, edges)) = path.last_mut() {
            let at = *at;
            match edges.next() {
                Some(&to) if order[to] == UNSEEN => {
                    (order[to], low[to], is_open[to]) = (next, next, true);
                    next += 1;
                    stack.push(to);
                    path.push((to, graph[to].keys()));
                }
                Some(&to) if is_open[to] => low[at] = low[at].min(order[to]),
                Some(_) => {}
                None => {
                    path.pop();
                    if let Some((parent, _)) = path.last() {
                        low[*parent] = low[*parent].min(low[at]);
                    }
                    if low[at] == order[at] {
                        let begin = stack.iter().rposition(|open| *open == at).unwrap_or(0);
                        let mut component = stack.split_off(begin);
                        component.iter().for_each(|txn| is_open[*txn] = false);
                        component.sort_unstable();
                        found.push(component);
                    }
                }
            }
        }
    }
    found.retain(|component| component.len() > 1);
    found
}

/// The shortest cycle through one of the first transactions of a component.
fn shortest(graph: &Graph, component: &[usize]) -> Vec<usize> {
    let mut best: Vec<usize> = Vec::new();
    for start in component.iter().take(MAX_STARTS) {
        if let Some(cycle) = cycle_through(graph, component, *start)
            && (best.is_empty() || cycle.len() < best.len())
        {
            best = cycle;
        }
        if best.len() == 2 {
            break;
        }
    }
    best
}

fn cycle_through(graph: &Graph, component: &[usize], start: usize) -> Option<Vec<usize>> {
    let mut came_from = BTreeMap::from([(start, start)]);
    let mut queue = VecDeque::from([start]);
    while let Some(at) = queue.pop_front() {
        for to in graph[at].keys().copied() {
            if to == start {
                let mut cycle = vec![at];
                while let Some(last) = cycle.last().copied().filter(|last| *last != start) {
                    cycle.push(*came_from.get(&last)?);
                }
                cycle.reverse();
                return Some(cycle);
            }
            if component.binary_search(&to).is_ok() && !came_from.contains_key(&to) {
                came_from.insert(to, at);
                queue.push_back(to);
            }
        }
    }
    None
}
