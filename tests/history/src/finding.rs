//! What a check has to say: the anomaly by name, one sentence, and the events that show it.

use std::fmt;

use super::event::{Event, Op};

/// Findings that are printed; a log that is broken altogether has too many to read.
const SHOWN_FINDINGS: usize = 20;

/// Records of one partition of one poll that are printed.
const SHOWN_RECORDS: usize = 8;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Anomaly {
    /// A record was read that nobody sent.
    Unsent,
    /// Acknowledged; later offsets were read, this one never.
    LostWrite,
    /// Acknowledged; never read, though a reader went to the end afterwards.
    UnseenWrite,
    /// One value at two offsets.
    Duplicate,
    /// Two values at one offset.
    InconsistentOffset,
    /// Two sends that one producer had under way together are in the log the other way round.
    Reordered,
    /// A send that began after another was acknowledged is before it in the log.
    NonmonotonicSend,
    /// G1a: read, though its send failed or its transaction was aborted.
    AbortedRead,
    /// Read under `read_committed` before anybody asked to commit its transaction.
    DirtyRead,
    /// G1b: a reader under `read_committed` was shown a part of a transaction and not the rest.
    PartialRead,
    /// G1c: transactions that depend on each other in a circle.
    Cycle,
    /// Within one poll an offset is not behind the one before it.
    InternalNonmonotonicPoll,
    /// A poll begins at an offset that the consumer had passed.
    ExternalNonmonotonicPoll,
    /// One poll leaves out a record that others were given.
    InternalSkippedPoll,
    /// Between two polls of a consumer lies a record that others were given.
    ExternalSkippedPoll,
    /// The committed offset of a group went back.
    OffsetRegression,
    /// An input has two committed outputs.
    DoubleOutput,
    /// An input counts as consumed, but has no committed output.
    MissingOutput,
}

impl Anomaly {
    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unsent => "unsent value",
            Self::LostWrite => "lost write",
            Self::UnseenWrite => "unseen write",
            Self::Duplicate => "duplicate",
            Self::InconsistentOffset => "inconsistent offset",
            Self::Reordered => "reordered sends",
            Self::NonmonotonicSend => "non-monotonic send",
            Self::AbortedRead => "aborted read (G1a)",
            Self::DirtyRead => "dirty read",
            Self::PartialRead => "partial read (G1b)",
            Self::Cycle => "cycle (G1c)",
            Self::InternalNonmonotonicPoll => "non-monotonic poll (internal)",
            Self::ExternalNonmonotonicPoll => "non-monotonic poll (external)",
            Self::InternalSkippedPoll => "skipped poll (internal)",
            Self::ExternalSkippedPoll => "skipped poll (external)",
            Self::OffsetRegression => "offset regression",
            Self::DoubleOutput => "double output",
            Self::MissingOutput => "missing output",
        }
    }
}

/// One anomaly.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// Its kind.
    pub anomaly: Anomaly,
    /// The events that show it, as places in the history, in the order of the argument.
    pub events: Vec<usize>,
    /// The argument.
    pub what: String,
}

impl Finding {
    pub(super) fn new(
        anomaly: Anomaly,
        events: impl IntoIterator<Item = usize>,
        what: String,
    ) -> Self {
        let mut shown = Vec::new();
        for event in events {
            if !shown.contains(&event) {
                shown.push(event);
            }
        }
        Self {
            anomaly,
            events: shown,
            what,
        }
    }
}

/// All findings about a history. Its text names each with the lines (from 1) of its events.
#[derive(Clone, Debug)]
pub struct Report<'a> {
    /// The history.
    pub events: &'a [Event],
    /// Sorted by anomaly and place.
    pub findings: Vec<Finding>,
}

impl Report<'_> {
    /// The kinds of anomalies, each once.
    pub fn anomalies(&self) -> Vec<Anomaly> {
        let mut all: Vec<_> = self.findings.iter().map(|f| f.anomaly).collect();
        all.dedup();
        all
    }
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} findings in {} events",
            self.findings.len(),
            self.events.len()
        )?;
        for finding in self.findings.iter().take(SHOWN_FINDINGS) {
            writeln!(f, "{}: {}", finding.anomaly.name(), finding.what)?;
            for event in &finding.events {
                if let Some(shown) = self.events.get(*event) {
                    writeln!(f, "  line {}: {}", event + 1, line(shown))?;
                }
            }
        }
        match self.findings.len().saturating_sub(SHOWN_FINDINGS) {
            0 => Ok(()),
            more => writeln!(f, "and {more} more"),
        }
    }
}

/// The event as it is in the file, but of a long poll the first records only.
fn line(event: &Event) -> String {
    let mut event = event.clone();
    let mut cut = 0;
    if let Op::Poll { records, .. } = &mut event.op {
        for records in records.values_mut() {
            cut += records.len().saturating_sub(SHOWN_RECORDS);
            records.truncate(SHOWN_RECORDS);
        }
    }
    let text = serde_json::to_string(&event).unwrap_or_else(|error| error.to_string());
    match cut {
        0 => text,
        cut => format!("{text} and {cut} records more"),
    }
}
