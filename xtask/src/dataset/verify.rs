//! Judges what a reader found: are all rows there, once, in order, where they were acknowledged, and
//! the same to the last byte?
//!
//! A plain function of the rows that were sent, the acknowledgements, and the text that the reader
//! wrote: a line for each record with partition, offset, key and value, separated by tabs. *Nothing
//! in that text is trusted: what cannot be read is a finding, too.*

use std::fmt;
use std::io::BufRead;
use std::ops::Range;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use super::rows::{Rows, hex};

/// How many findings are kept; all are counted.
const KEPT: usize = 20;

/// Partition and offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Partition.
    pub partition: i32,
    /// Offset in it.
    pub offset: i64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "partition {} offset {}", self.partition, self.offset)
    }
}

/// What a producer was told about a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledgement {
    /// The row.
    pub row: usize,
    /// Where it is; the offset is negative when the producer was not told.
    pub place: Place,
}

/// What must be found.
#[derive(Clone, Debug)]
pub struct Expected<'a> {
    /// All rows.
    pub rows: &'a Rows,
    /// Those that were sent, in this order.
    pub range: Range<usize>,
    /// How many partitions the topic has.
    pub partitions: usize,
    /// What the producer was told; none when it tells nobody.
    pub acknowledged: Option<&'a [Acknowledgement]>,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// A row that was acknowledged is not there.
    Lost(usize),
    /// A row is there twice.
    Duplicate(usize, Place, Place),
    /// A row stands behind one that was sent later.
    Reordered(usize, usize, Place),
    /// A row differs from what was sent, from this byte of its line on.
    Changed(usize, Place, usize),
    /// A record that nobody sent.
    Unknown(Place, String),
    /// Offsets do not follow one another: the expected one and the found one.
    Gap(i64, Place),
    /// A row is not where it was acknowledged: there, and here.
    Moved(usize, Place, Place),
    /// The producer was never told that this row is safe.
    Unacknowledged(usize),
    /// The producer was told twice.
    AcknowledgedTwice(usize),
    /// A line of the reader that is none, by its number from 0.
    Unreadable(usize),
    /// Two readers found a row at different places, or only one found it.
    Disagreement(usize, Option<Place>, Option<Place>),
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost(row) => write!(f, "row {row} is lost"),
            Self::Duplicate(row, first, second) => {
                write!(f, "row {row} is there twice: {first} and {second}")
            }
            Self::Reordered(row, later, at) => {
                write!(f, "row {row} ({at}) stands behind row {later}")
            }
            Self::Changed(row, at, byte) => {
                write!(f, "row {row} ({at}) differs from byte {byte} on")
            }
            Self::Unknown(at, key) => write!(f, "nobody sent the record at {at}, key {key:?}"),
            Self::Gap(expected, at) => write!(f, "{at} follows where {expected} was due"),
            Self::Moved(row, told, found) => {
                write!(f, "row {row} was acknowledged at {told} and is at {found}")
            }
            Self::Unacknowledged(row) => write!(f, "row {row} was never acknowledged"),
            Self::AcknowledgedTwice(row) => write!(f, "row {row} was acknowledged twice"),
            Self::Unreadable(line) => write!(f, "line {line} of the reader is no record"),
            Self::Disagreement(row, one, other) => {
                let place = |place: &Option<Place>| match place {
                    Some(place) => place.to_string(),
                    None => "nowhere".to_owned(),
                };
                let (one, other) = (place(one), place(other));
                write!(f, "the readers disagree on row {row}: {one}, {other}")
            }
        }
    }
}

/// The first findings, and how many there are.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// The first ones.
    pub kept: Vec<Finding>,
    /// All of them.
    pub count: usize,
}

impl Findings {
    fn add(&mut self, finding: Finding) {
        self.count += 1;
        if self.kept.len() < KEPT {
            self.kept.push(finding);
        }
    }
}

/// What became of the rows.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// Records by partition.
    pub records: Vec<usize>,
    /// SHA-256 of what was read, as lines of key and value in the order of the rows. It equals that
    /// of the rows that were sent when all are there and none is changed.
    pub digest: String,
    /// What is wrong.
    pub findings: Findings,
    first: usize,
    places: Vec<Option<Place>>,
}

impl Verdict {
    /// Whether another reader found every row at the same place.
    pub fn compare(&self, other: &Self) -> Findings {
        let mut findings = Findings::default();
        for (i, (one, other)) in self.places.iter().zip(&other.places).enumerate() {
            if one != other {
                findings.add(Finding::Disagreement(self.first + i, *one, *other));
            }
        }
        findings
    }
}

/// What has been read of a partition.
#[derive(Clone, Default)]
struct Partition {
    records: usize,
    next: i64,
    last: Option<usize>,
}

/// What has been read so far.
struct Reading<'a> {
    expected: &'a Expected<'a>,
    partitions: Vec<Partition>,
    /// By row, counted from the first that was sent: its place and its line.
    seen: Vec<Option<(Place, &'a [u8])>>,
    findings: Findings,
}

/// Judges the text that a reader wrote.
pub fn verify<'a>(expected: &'a Expected<'a>, read: &'a [u8]) -> Verdict {
    let mut reading = Reading {
        expected,
        partitions: vec![Partition::default(); expected.partitions],
        seen: vec![None; expected.range.len()],
        findings: Findings::default(),
    };
    let mut left = read;
    let mut number = 0;
    while !left.is_empty() {
        let line = next_line(&mut left);
        match split(line) {
            Some((place, record)) => reading.record(number, place, record),
            None => reading.findings.add(Finding::Unreadable(number)),
        }
        number += 1;
    }
    reading.finish()
}

impl<'a> Reading<'a> {
    fn record(&mut self, number: usize, place: Place, record: &'a [u8]) {
        let expected = self.expected;
        let partition = usize::try_from(place.partition)
            .ok()
            .and_then(|index| self.partitions.get_mut(index));
        let Some(partition) = partition else {
            self.findings.add(Finding::Unreadable(number));
            return;
        };
        partition.records += 1;
        if place.offset != partition.next {
            self.findings.add(Finding::Gap(partition.next, place));
        }
        partition.next = place.offset.saturating_add(1);
        let key = record.split(|byte| *byte == b'\t').next();
        let key = String::from_utf8_lossy(key.unwrap_or_default());
        let row = key.parse().ok().filter(|row| expected.range.contains(row));
        let Some(row) = row else {
            self.findings.add(Finding::Unknown(place, key.into_owned()));
            return;
        };
        let seen = &mut self.seen[row - expected.range.start];
        if let Some((first, _)) = seen {
            self.findings.add(Finding::Duplicate(row, *first, place));
            return;
        }
        *seen = Some((place, record));
        match partition.last {
            Some(last) if last > row => self.findings.add(Finding::Reordered(row, last, place)),
            _ => partition.last = Some(row),
        }
        let sent = expected.rows.line(row).unwrap_or_default();
        if sent != record {
            let same = sent.iter().zip(record).take_while(|(a, b)| a == b).count();
            self.findings.add(Finding::Changed(row, place, same));
        }
    }

    fn finish(mut self) -> Verdict {
        let first = self.expected.range.start;
        for (i, seen) in self.seen.iter().enumerate() {
            if seen.is_none() {
                self.findings.add(Finding::Lost(first + i));
            }
        }
        if let Some(acknowledged) = self.expected.acknowledged {
            self.acknowledgements(acknowledged);
        }
        let mut digest = Sha256::new();
        for (_, line) in self.seen.iter().flatten() {
            digest.update(line);
            digest.update(b"\n");
        }
        Verdict {
            records: self.partitions.iter().map(|part| part.records).collect(),
            digest: hex(&digest.finalize()),
            findings: self.findings,
            first,
            places: self.seen.iter().map(|seen| seen.map(|at| at.0)).collect(),
        }
    }

    fn acknowledgements(&mut self, acknowledged: &[Acknowledgement]) {
        let first = self.expected.range.start;
        let mut told = vec![false; self.seen.len()];
        for acknowledgement in acknowledged {
            let Acknowledgement { row, place } = *acknowledgement;
            if !self.expected.range.contains(&row) {
                self.findings.add(Finding::Unknown(place, row.to_string()));
                continue;
            }
            if std::mem::replace(&mut told[row - first], true) {
                self.findings.add(Finding::AcknowledgedTwice(row));
            }
            let Some((found, _)) = self.seen[row - first] else {
                continue;
            };
            let same = found.partition == place.partition
                && (place.offset < 0 || found.offset == place.offset);
            if !same {
                self.findings.add(Finding::Moved(row, place, found));
            }
        }
        for (i, told) in told.iter().enumerate() {
            if !told {
                self.findings.add(Finding::Unacknowledged(first + i));
            }
        }
    }
}

/// Takes the next line, without its end, off a text.
fn next_line<'a>(left: &mut &'a [u8]) -> &'a [u8] {
    let all = *left;
    // Reading from memory cannot fail.
    let length = left.skip_until(b'\n').unwrap_or(all.len());
    let line = &all[..length];
    line.strip_suffix(b"\n").unwrap_or(line)
}

/// Takes partition and offset off a line; the rest is key, tab and value.
fn split(line: &[u8]) -> Option<(Place, &[u8])> {
    let (partition, rest) = field(line)?;
    let (offset, rest) = field(rest)?;
    let partition = partition.parse().ok()?;
    let offset = offset.parse().ok()?;
    let place = Place { partition, offset };
    Some((place, rest))
}

fn field(line: &[u8]) -> Option<(&str, &[u8])> {
    let end = line.iter().position(|byte| *byte == b'\t')?;
    let text = str::from_utf8(&line[..end]).ok()?;
    Some((text, &line[end + 1..]))
}

/// Reads what a producer wrote down: a line for each record with row, partition and offset.
///
/// # Errors
/// When a line is something else.
pub fn acknowledgements(text: &str) -> Result<Vec<Acknowledgement>> {
    let read = |line: &str| {
        let mut fields = line.split('\t');
        let row = fields.next()?.parse().ok()?;
        let partition = fields.next()?.parse().ok()?;
        let offset = fields.next()?.parse().ok()?;
        let place = Place { partition, offset };
        fields
            .next()
            .is_none()
            .then_some(Acknowledgement { row, place })
    };
    text.lines()
        .map(|line| read(line).with_context(|| format!("{line:?} is no acknowledgement")))
        .collect()
}
