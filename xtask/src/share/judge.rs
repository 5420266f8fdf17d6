//! Whether what the consumers wrote down is right.
//!
//! Every record was handed to somebody; nobody got one more often than the limit says; an acceptance that was
//! confirmed is the last that is heard of a record, apart from consumers that still had it from before (a
//! server that is killed forgets who has what): what those say of it must fail. When everything is done a
//! consumer that comes gets nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

/// Partition and offset.
type At = (i32, i64);

/// One line of a consumer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// It got a record, so many times in all.
    Got {
        worker: usize,
        at: At,
        deliveries: u16,
        value: u64,
    },
    /// It is about to say this of the record.
    Says { worker: usize, at: At, what: String },
    /// What it said is stored.
    Confirmed { worker: usize, at: At },
    /// What it said was refused, or nothing was heard.
    Failed { worker: usize, at: At },
    /// It was stopped or killed.
    Ended(usize),
}

impl Event {
    /// Reads a line; `None` for one that says nothing of a record.
    pub(super) fn parse(worker: usize, line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let what = words.next()?;
        let at = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        Some(match what {
            "got" => Self::Got {
                worker,
                at,
                deliveries: words.next()?.parse().ok()?,
                value: words.next()?.parse().ok()?,
            },
            "says" => Self::Says {
                worker,
                at,
                what: words.next()?.to_owned(),
            },
            "ok" => Self::Confirmed { worker, at },
            "failed" => Self::Failed { worker, at },
            _ => return None,
        })
    }
}

/// What must come out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expected {
    /// Values 0 up to this number were sent.
    pub(super) records: u64,
    /// How often a record may be handed out.
    pub(super) deliveries: u16,
    /// The consumer that comes when everything is done.
    pub(super) last_worker: usize,
}

/// What came out.
#[derive(Clone, Debug, Default)]
pub(super) struct Verdict {
    got: usize,
    confirmed: usize,
    failed: usize,
    again: usize,
    /// What is wrong.
    pub(super) findings: Vec<String>,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} deliveries ({} of them not the first), {} acknowledgements confirmed, {} not",
            self.got, self.again, self.confirmed, self.failed
        )
    }
}

/// Most findings of one kind that are shown.
const SHOWN: usize = 5;

/// Judges the events, in the order in which they were heard.
pub(super) fn judge(events: &[Event], expected: &Expected) -> Verdict {
    let mut verdict = Verdict::default();
    let mut seen: BTreeSet<u64> = BTreeSet::new();
    // What each consumer said of a record and has not heard back of.
    let mut said: HashMap<(usize, At), String> = HashMap::new();
    let mut ended: BTreeMap<At, usize> = BTreeMap::new();
    let mut wrong = Vec::new();
    for event in events {
        match event {
            Event::Got {
                worker,
                at,
                deliveries,
                value,
            } => {
                verdict.got += 1;
                verdict.again += usize::from(*deliveries > 1);
                seen.insert(*value);
                if *deliveries > expected.deliveries {
                    wrong.push(format!("{at:?} was handed out {deliveries} times"));
                }
                if *worker == expected.last_worker {
                    wrong.push(format!("{at:?} came when everything was done"));
                }
            }
            Event::Says { worker, at, what } => {
                said.insert((*worker, *at), what.clone());
            }
            Event::Confirmed { worker, at } => {
                verdict.confirmed += 1;
                let what = said.remove(&(*worker, *at));
                match (what.as_deref(), ended.get(at)) {
                    (None, _) => wrong.push(format!("{at:?} is confirmed to {worker}, who said nothing")),
                    (Some(_), Some(other)) => wrong.push(format!(
                        "{at:?} was ended by consumer {other}, then acknowledged by consumer {worker}"
                    )),
                    (Some("ACCEPT" | "REJECT"), None) => drop(ended.insert(*at, *worker)),
                    (Some(_), None) => {}
                }
            }
            Event::Failed { worker, at } => {
                verdict.failed += 1;
                said.remove(&(*worker, *at));
            }
            Event::Ended(worker) => said.retain(|(of, _), _| of != worker),
        }
    }
    let missing: Vec<u64> = (0..expected.records)
        .filter(|value| !seen.contains(value))
        .collect();
    if !missing.is_empty() {
        let first: Vec<String> = missing
            .iter()
            .take(SHOWN)
            .map(ToString::to_string)
            .collect();
        wrong.push(format!(
            "{} records came to nobody: {}",
            missing.len(),
            first.join(", ")
        ));
    }
    if verdict.confirmed == 0 {
        wrong.push("nothing was acknowledged".to_owned());
    }
    wrong.truncate(SHOWN);
    verdict.findings = wrong;
    verdict
}
