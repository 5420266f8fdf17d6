//! Judges a recorded history of concurrent sends, polls and transactions: names each anomaly with the
//! operations that show it. What to look for is what Jepsen's Kafka workload looks for.
//!
//! * [`event`]: what is recorded, as JSON lines that any client can write.
//! * `index`, `operation`: events made into operations: which end belongs to which beginning, what a transaction
//!   holds, who saw a record first.
//! * `writes`, `polls`, `isolation`, `cycles`, `groups`: the checks.
//! * [`finding`]: what they say.
//! * [`merge`]: one history of what several processes wrote down, each in a file of its own.
//! * [`model`], [`plant`]: correct histories from a seed, and anomalies put into them.
//!
//! *Pure and deterministic; time grows with n log n. An operation whose outcome is unknown is never held
//! against the log: it may have happened or not. What is named is impossible in a correct log.*
//!
//! A history is of logs from which nothing is deleted by retention or compaction, and the members of a
//! group do not go back on purpose.

mod cycles;
pub mod event;
pub mod finding;
mod groups;
mod index;
mod isolation;
pub mod merge;
pub mod model;
mod operation;
pub mod plant;
mod polls;
mod writes;

pub use event::{Event, Isolation, Op, Phase, Recorder, read_lines, write_lines};
pub use finding::{Anomaly, Finding, Report};

/// What is asked of the log beyond what holds always.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Producers are idempotent: no value is in the log twice, and sends that are under way together keep
    /// their order.
    pub idempotent: bool,
    /// The order of writes counts as a dependency in the search for cycles. Kafka does not promise that:
    /// transactions may interleave in the logs that they share, so it is off unless asked for.
    pub write_order: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            idempotent: true,
            write_order: false,
        }
    }
}

/// The history contradicts itself, so that nothing can be said about the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {}: {why}", event + 1)]
pub struct Malformed {
    /// Place of the event in the history.
    pub event: usize,
    /// What is wrong with it.
    pub why: String,
}

/// Judges a history by the usual rules.
///
/// # Errors
/// The history contradicts itself: an end without its beginning, a value that is sent twice.
pub fn check(events: &[Event]) -> Result<Report<'_>, Malformed> {
    check_by(events, Rules::default())
}

/// Judges a history.
///
/// # Errors
/// As [`check`].
pub fn check_by(events: &[Event], rules: Rules) -> Result<Report<'_>, Malformed> {
    let index = index::Index::new(events)?;
    let mut findings = Vec::new();
    writes::check(&index, rules, &mut findings);
    polls::check(&index, &mut findings);
    let cycles = cycles::check(&index, rules, &mut findings);
    isolation::check(&index, &cycles, &mut findings);
    groups::check(&index, &mut findings);
    findings.sort();
    Ok(Report { events, findings })
}
