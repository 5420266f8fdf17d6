//! What is recorded of a run: one event for each beginning and each end of an operation, as JSON lines.
//!
//! A line is one object. `process` numbers a client, `type` is `invoke`, `ok`, `fail` or `info`, and `f`
//! names the operation, with its fields beside it:
//!
//! ```json
//! {"process":1,"type":"invoke","f":"send","log":"orders-0","value":7}
//! {"process":1,"type":"ok","f":"send","log":"orders-0","value":7,"offset":3}
//! {"process":2,"type":"ok","f":"poll","isolation":"read_committed","records":{"orders-0":[[3,7]]}}
//! ```
//!
//! `fail` says that the operation surely had no effect, `info` that nobody knows. An operation without an
//! end counts as `info`. *The order of the lines is the order in which things were seen to happen: an
//! `invoke` is recorded before the request leaves, an end after the answer came.*

use std::collections::BTreeMap;
use std::io::{BufRead, Write};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

/// Most events that are read from one file.
const MAX_EVENTS: usize = 50_000_000;

/// One line of a history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Who acts: a number that stands for one client, through its restarts too.
    pub process: u32,
    /// Begin or end.
    #[serde(rename = "type")]
    pub phase: Phase,
    /// What is done.
    #[serde(flatten)]
    pub op: Op,
}

impl Event {
    /// An event.
    pub fn new(process: u32, phase: Phase, op: Op) -> Self {
        Self { process, phase, op }
    }
}

/// Begin or end of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The request is about to leave.
    Invoke,
    /// It was answered: done.
    Ok,
    /// It was answered: surely not done, now or later.
    Fail,
    /// It may have been done, or may still be.
    Info,
}

/// What a reader is shown of transactions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    /// Everything.
    #[default]
    ReadUncommitted,
    /// What is committed, up to the first transaction that is open.
    ReadCommitted,
}

/// An operation. A partition is named by one string, its `log`: `orders-0`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "f", rename_all = "snake_case")]
pub enum Op {
    /// One record. Several may be under way; the order of their `invoke`s is the producer's order.
    Send {
        /// Partition.
        log: String,
        /// Sent once only in this partition, whatever becomes of it.
        value: i64,
        /// Where the server says it is; absent when it does not say.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        offset: Option<i64>,
        /// Partition and offset of the input that this record is the one output of.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        source: Option<(String, i64)>,
    },
    /// What a consumer was given; the records are in the `ok`.
    Poll {
        /// As the consumer is set up.
        #[serde(default)]
        isolation: Isolation,
        /// For each partition offset and value, in the order in which they were given.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        records: BTreeMap<String, Vec<(i64, i64)>>,
        /// Partitions that have now been read from their first record to the end which they had when
        /// this poll began.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        ends: Vec<String>,
    },
    /// The consumer takes these partitions; what it had already goes on where it was.
    Assign {
        /// All partitions from now on.
        logs: Vec<String>,
    },
    /// The consumer joins a group; no position is kept.
    Subscribe {
        /// Topics or partitions; for the reader of the history only.
        logs: Vec<String>,
    },
    /// The group gave the consumer these partitions; no position is kept.
    Rebalance {
        /// All partitions from now on.
        logs: Vec<String>,
    },
    /// The consumer moves.
    Seek {
        /// Partition.
        log: String,
        /// The next record is at this offset or behind it; absent when that is not known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        offset: Option<i64>,
    },
    /// Opens a transaction: what the process sends, polls and commits from here on belongs to it.
    Begin,
    /// Ends the transaction.
    Commit,
    /// Undoes the transaction.
    Abort,
    /// Commits offsets for a group; within a transaction they count when that is committed.
    CommitOffsets {
        /// Group.
        group: String,
        /// Offset of the next input for each partition.
        offsets: BTreeMap<String, i64>,
    },
    /// Asks for a group's committed offsets; they are in the `ok`.
    Committed {
        /// Group.
        group: String,
        /// Offset for each partition that has one.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        offsets: BTreeMap<String, i64>,
    },
    /// The process died: its open operations are unknown, its transaction is left, its positions are gone.
    Crash,
}

/// Collects the events of concurrent clients in the order in which they are told.
#[derive(Debug, Default)]
pub struct Recorder(Mutex<Vec<Event>>);

impl Recorder {
    /// Adds an event.
    pub fn record(&self, process: u32, phase: Phase, op: Op) {
        self.record_all([Event::new(process, phase, op)]);
    }

    /// Adds events that nothing may come between.
    pub fn record_all(&self, events: impl IntoIterator<Item = Event>) {
        // A client that panicked has left whole events only.
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.extend(events);
    }

    /// All events so far; what comes later begins a new history.
    pub fn take(&self) -> Vec<Event> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Writes a history as JSON lines.
///
/// # Errors
/// The writer's error.
pub fn write_lines(events: &[Event], mut to: impl Write) -> Result<()> {
    for event in events {
        serde_json::to_writer(&mut to, event)?;
        to.write_all(b"\n")?;
    }
    Ok(())
}

/// Reads JSON lines; empty ones do not count.
///
/// # Errors
/// The reader's error, or the line that is no event.
pub fn read_lines(from: impl BufRead) -> Result<Vec<Event>> {
    let mut events = Vec::new();
    for (number, line) in (1..).zip(from.lines()) {
        let line = line.with_context(|| format!("line {number} cannot be read"))?;
        if line.trim().is_empty() {
            continue;
        }
        ensure!(
            events.len() < MAX_EVENTS,
            "over {MAX_EVENTS} events in one history"
        );
        let event =
            serde_json::from_str(&line).with_context(|| format!("line {number} is no event"))?;
        events.push(event);
    }
    Ok(events)
}
