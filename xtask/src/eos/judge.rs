//! Whether what independent readers found is what exactly-once promises: a pure function of the inputs, as they
//! were loaded, and of the topics, as they were read. *Whatever is wrong has a name, and says where it is.*

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use anyhow::{Context, Result, ensure};

/// Two records whose times differ by no more than this are joined, in milliseconds; as in `StreamsApp.java`.
const WINDOW_MS: i64 = 1000;

/// Faults of a kind that are kept: a run that is broken altogether has too many to read.
const KEPT: usize = 20;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// Should be there, and is not.
    Missing,
    /// Is there more often than it should be.
    Repeated,
    /// Is there, and should not be: of an aborted transaction, changed, or made up.
    Unexpected,
    /// All are there, in another order.
    Disordered,
    /// A group's committed offset does not agree with its outputs.
    Offset,
    /// Two readers were given different records.
    Readers,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Its kind.
    pub fault: Fault,
    /// What and where.
    pub what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.fault, self.what)
    }
}

/// All that is wrong.
#[derive(Debug, Default)]
pub struct Findings {
    /// The first ones.
    pub kept: Vec<Finding>,
    /// How many there are.
    pub count: usize,
}

impl Findings {
    /// Adds one.
    pub fn add(&mut self, fault: Fault, what: String) {
        self.count += 1;
        if self.kept.len() < KEPT {
            self.kept.push(Finding { fault, what });
        }
    }
}

/// A record that was loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// Topic without the run's prefix.
    pub topic: String,
    /// Partition.
    pub partition: u32,
    /// Unix time in milliseconds.
    pub timestamp: i64,
    /// Key.
    pub key: String,
    /// Value.
    pub value: String,
}

/// What was loaded, from the loader's own notes.
#[derive(Debug, Default)]
pub struct Inputs {
    /// Records of committed transactions, in the order of sending.
    pub committed: Vec<Input>,
    /// How many records were in aborted ones.
    pub aborted: usize,
}

impl Inputs {
    /// Reads the notes: a line for each record, and one for the end of each transaction. What no end follows
    /// counts as aborted.
    ///
    /// # Errors
    /// A line that is neither.
    pub fn parse(text: &str, prefix: &str) -> Result<Self> {
        let mut inputs = Self::default();
        let mut open = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            match line {
                "commit" => inputs.committed.append(&mut open),
                "abort" => {
                    inputs.aborted += open.len();
                    open.clear();
                }
                _ => {
                    let input = Self::record(line, prefix);
                    open.push(input.with_context(|| format!("line {number} of the inputs"))?);
                }
            }
        }
        inputs.aborted += open.len();
        Ok(inputs)
    }

    fn record(line: &str, prefix: &str) -> Result<Input> {
        let fields: Vec<_> = line.split('\t').collect();
        let [topic, partition, timestamp, key, value] = fields[..] else {
            anyhow::bail!("{} fields instead of 5", fields.len());
        };
        let topic = topic.strip_prefix(prefix).and_then(|t| t.strip_prefix('-'));
        Ok(Input {
            topic: topic.context("a topic of another run")?.to_owned(),
            partition: partition.parse()?,
            timestamp: timestamp.parse()?,
            key: key.to_owned(),
            value: value.to_owned(),
        })
    }

    /// The committed records of a topic.
    pub fn of(&self, topic: &str) -> impl Iterator<Item = &Input> {
        self.committed.iter().filter(move |i| i.topic == topic)
    }

    /// How often each word is in the lines.
    pub fn words(&self) -> BTreeMap<&str, usize> {
        let mut counts = BTreeMap::new();
        for word in self.of("lines").flat_map(|line| line.value.split(' ')) {
            *counts.entry(word).or_default() += 1;
        }
        counts
    }

    /// The pairs of both sides that are joined.
    pub fn pairs(&self) -> Vec<String> {
        let mut pairs = Vec::new();
        for left in self.of("left") {
            let near = self.of("right").filter(|right| {
                right.key == left.key && (right.timestamp - left.timestamp).abs() <= WINDOW_MS
            });
            pairs.extend(near.map(|right| format!("{}+{}", left.value, right.value)));
        }
        pairs
    }
}

/// A record that was read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Record {
    /// Partition.
    pub partition: u32,
    /// Offset.
    pub offset: i64,
    /// Key.
    pub key: String,
    /// Value.
    pub value: String,
}

/// A topic as a reader wrote it down, by partition and offset.
///
/// # Errors
/// A line that is no record.
pub fn topic(text: &str) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let fields: Vec<_> = line.split('\t').collect();
        ensure!(
            fields.len() == 4,
            "line {number} has {} fields",
            fields.len()
        );
        records.push(Record {
            partition: fields[0].parse()?,
            offset: fields[1].parse()?,
            key: fields[2].to_owned(),
            value: fields[3].to_owned(),
        });
    }
    records.sort();
    Ok(records)
}

/// The inputs as they were read are those that were committed, in their order.
pub fn loaded(inputs: &Inputs, read: &[Record], findings: &mut Findings) {
    for partition in partitions(
        read.iter()
            .map(|r| r.partition)
            .chain(inputs.of("in").map(|i| i.partition)),
    ) {
        let expected = inputs.of("in").filter(|i| i.partition == partition);
        let expected: Vec<_> = expected.map(|i| i.value.as_str()).collect();
        let found = read.iter().filter(|r| r.partition == partition);
        let found: Vec<_> = found.map(|r| r.value.as_str()).collect();
        sequence(&format!("in-{partition}"), &expected, &found, findings);
    }
}

/// Each input has one output, in its partition, in its order.
pub fn transformed(name: &str, read: &[Record], outputs: &[Record], findings: &mut Findings) {
    for partition in partitions(read.iter().chain(outputs).map(|r| r.partition)) {
        let expected = read.iter().filter(|r| r.partition == partition);
        let expected = expected.map(|r| format!("{partition}:{}:{}", r.offset, r.value));
        let expected: Vec<_> = expected.collect();
        let expected: Vec<_> = expected.iter().map(String::as_str).collect();
        let found = outputs.iter().filter(|r| r.partition == partition);
        let found: Vec<_> = found.map(|r| r.key.as_str()).collect();
        sequence(&format!("{name}-{partition}"), &expected, &found, findings);
    }
}

/// The committed offset of each partition is the one behind its last input.
pub fn offsets(
    group: &str,
    read: &[Record],
    committed: &BTreeMap<u32, i64>,
    findings: &mut Findings,
) {
    let mut expected: BTreeMap<u32, i64> = BTreeMap::new();
    for record in read {
        let next = expected.entry(record.partition).or_default();
        *next = (*next).max(record.offset + 1);
    }
    for partition in partitions(expected.keys().chain(committed.keys()).copied()) {
        let (wanted, found) = (expected.get(&partition), committed.get(&partition));
        if wanted != found {
            let what = format!(
                "{group} committed {found:?} of partition {partition}, expected {wanted:?}"
            );
            findings.add(Fault::Offset, what);
        }
    }
}

/// Each word was counted from 1 to its number, in steps of one.
pub fn counted(inputs: &Inputs, counts: &[Record], findings: &mut Findings) {
    let mut found: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for record in counts {
        found.entry(&record.key).or_default().push(&record.value);
    }
    let words = inputs.words();
    for (word, number) in &words {
        let expected: Vec<_> = (1..=*number).map(|n| n.to_string()).collect();
        let expected: Vec<_> = expected.iter().map(String::as_str).collect();
        let found = found.remove(word).unwrap_or_default();
        sequence(&format!("count of {word:?}"), &expected, &found, findings);
    }
    for word in found.keys() {
        findings.add(
            Fault::Unexpected,
            format!("{word:?} was counted, and is no input"),
        );
    }
}

/// Each pair was joined once.
pub fn joined(inputs: &Inputs, joined: &[Record], findings: &mut Findings) {
    let mut expected = inputs.pairs();
    let mut found: Vec<_> = joined.iter().map(|r| r.value.clone()).collect();
    // The order of joining is not promised.
    expected.sort();
    found.sort();
    let expected: Vec<_> = expected.iter().map(String::as_str).collect();
    let found: Vec<_> = found.iter().map(String::as_str).collect();
    sequence("join", &expected, &found, findings);
}

/// Two readers were given the same.
pub fn same(name: &str, one: &[Record], other: &[Record], findings: &mut Findings) {
    if one == other {
        return;
    }
    let differs = one.iter().zip(other).position(|(a, b)| a != b);
    let at = differs.unwrap_or(one.len().min(other.len()));
    let what = format!(
        "{name}: {} records and {}, first different: {:?} and {:?}",
        one.len(),
        other.len(),
        one.get(at),
        other.get(at)
    );
    findings.add(Fault::Readers, what);
}

fn partitions(all: impl Iterator<Item = u32>) -> Vec<u32> {
    let mut all: Vec<_> = all.collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// Compares what was found with what was expected, item by item.
fn sequence(place: &str, expected: &[&str], found: &[&str], findings: &mut Findings) {
    if expected == found {
        return;
    }
    let mut left: HashMap<&str, i64> = HashMap::new();
    for item in expected {
        *left.entry(item).or_default() += 1;
    }
    let before = findings.count;
    let known = left.clone();
    for item in found {
        match left.get_mut(item) {
            None => findings.add(Fault::Unexpected, format!("{place}: {item:?}")),
            Some(count) => *count -= 1,
        }
    }
    let mut odd: Vec<_> = left.into_iter().filter(|(_, count)| *count != 0).collect();
    odd.sort_unstable();
    for (item, count) in odd {
        let times = known[item] - count;
        let what = format!("{place}: {item:?} {times} times instead of {}", known[item]);
        findings.add(
            if count > 0 {
                Fault::Missing
            } else {
                Fault::Repeated
            },
            what,
        );
    }
    if findings.count == before {
        let at = expected
            .iter()
            .zip(found)
            .position(|(a, b)| a != b)
            .unwrap_or(0);
        let what = format!(
            "{place}: {:?} where {:?} was expected",
            found[at], expected[at]
        );
        findings.add(Fault::Disordered, what);
    }
}
