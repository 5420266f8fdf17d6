//! One history of what several processes wrote down, each in files of its own.
//!
//! A line is an event as [`super::event`] has it, with one field more: `at`, the nanoseconds of
//! `CLOCK_MONOTONIC`, which all processes of a machine share, when it happened:
//!
//! ```json
//! {"at":8103772051,"process":1,"type":"invoke","f":"send","log":"orders-0","value":7}
//! ```
//!
//! The `at` of an `invoke` is read before the request leaves, that of an end after the answer came. Every start
//! of a client has a number of its own as `process`; whoever ended it without its doing so itself adds a
//! `crash` ([`crash`]). A poll that gave nothing need not be written. A line is one write: *a process that is
//! killed leaves whole lines, and of the last one at most a part, which does not count.*

use std::io::{BufRead, Read};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::event::{Event, Op, Phase};

/// Longest line that is read: a poll of the whole history.
const MAX_LINE_BYTES: u64 = 1 << 28;

/// An event, and when it happened.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Timed {
    /// Nanoseconds of `CLOCK_MONOTONIC`.
    pub at: u64,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// The end of a process that was killed, or ended in the middle of something.
pub fn crash(at: u64, process: u32) -> Timed {
    let event = Event::new(process, Phase::Info, Op::Crash);
    Timed { at, event }
}

/// Reads what one process wrote; a last line without its end is left out.
///
/// # Errors
/// The reader's error, a line that is no event, or one that is longer than any event.
pub fn read_timed(mut from: impl BufRead) -> Result<Vec<Timed>> {
    let mut all = Vec::new();
    for number in 1.. {
        let mut line = String::new();
        let taken = from.by_ref().take(MAX_LINE_BYTES).read_line(&mut line);
        taken.with_context(|| format!("line {number} cannot be read"))?;
        if !line.ends_with('\n') {
            let length = line.len() as u64;
            ensure!(length < MAX_LINE_BYTES, "line {number} is too long");
            break;
        }
        let timed = serde_json::from_str(&line);
        all.push(timed.with_context(|| format!("line {number} is no event with a time"))?);
    }
    Ok(all)
}

/// Brings events into the order of their times; those of the same time keep theirs.
pub fn merge(mut events: Vec<Timed>) -> Vec<Event> {
    events.sort_by_key(|timed| timed.at);
    events.into_iter().map(|timed| timed.event).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Anomaly, check};

    const SENDER: &str = r#"{"at":10,"process":1,"type":"invoke","f":"send","log":"a-0","value":7}
{"at":30,"process":1,"type":"ok","f":"send","log":"a-0","value":7,"offset":0}
{"at":40,"process":1,"type":"invoke","f":"send","log":"a-0","value":8}
{"at":50,"process":1,"type":"ok","f":"se"#;
    const READER: &str = r#"{"at":20,"process":2,"type":"invoke","f":"poll","isolation":"read_committed"}
{"at":60,"process":2,"type":"ok","f":"poll","isolation":"read_committed","records":{"a-0":[[0,7],[1,9]]}}
"#;

    #[test]
    fn files_become_one_history_in_the_order_of_time() {
        let mut all = read_timed(READER.as_bytes()).unwrap();
        all.extend(read_timed(SENDER.as_bytes()).unwrap());
        all.push(crash(45, 1));
        let events = merge(all);
        let shown: Vec<_> = events.iter().map(|e| (e.process, e.phase)).collect();
        use Phase::{Info, Invoke, Ok};
        let expected = [
            (1, Invoke),
            (2, Invoke),
            (1, Ok),
            (1, Invoke),
            (1, Info),
            (2, Ok),
        ];
        assert_eq!(shown, expected);
        let report = check(&events).unwrap();
        assert_eq!(report.anomalies(), [Anomaly::Unsent], "{report}");
    }

    #[test]
    fn what_is_no_event_is_refused_unless_it_is_a_torn_end() {
        for text in ["{}\n", "{\"at\":1}\n", "\n", "x\n"] {
            assert!(read_timed(text.as_bytes()).is_err(), "{text:?}");
        }
        for text in ["", "{", r#"{"at":1,"process":1,"type":"info","f":"crash"}"#] {
            assert_eq!(read_timed(text.as_bytes()).unwrap(), [], "{text:?}");
        }
    }
}
