//! Medians, ratios, and the tables of `docs/PERFORMANCE.md`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::{fs, io};

use anyhow::{Context, Result};
use serde::Serialize;

use super::brokers::{Durability, Kind, VARIANTS, Variant};
use super::load::Sample;
use crate::docs::replace_between;

const BEGIN: &str = "<!-- bench:begin -->";
const END: &str = "<!-- bench:end -->";
const DUTIES_BEGIN: &str = "<!-- duties:begin -->";
const DUTIES_END: &str = "<!-- duties:end -->";

/// Whether a larger value is the better one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Better {
    More,
    Less,
}

/// A measure: its column, how it is shown, what is better.
type Measure = (&'static str, fn(&Sample) -> Option<f64>, Better);

const MEASURES: [Measure; 6] = [
    ("MB/s", |s| s.mb_per_s, Better::More),
    ("records/s", |s| s.records_per_s, Better::More),
    ("broker CPU s/GiB", |s| s.cpu_s_per_gib, Better::Less),
    ("p50 ms", |s| s.p50_us.map(|us| us / 1e3), Better::Less),
    ("p99 ms", |s| s.p99_us.map(|us| us / 1e3), Better::Less),
    ("p99.9 ms", |s| s.p99_9_us.map(|us| us / 1e3), Better::Less),
];

/// A figure of a broker as a whole, such as its start-up time.
#[derive(Clone, Debug, Serialize)]
pub struct Whole {
    /// What it is, with its unit.
    pub name: String,
    /// Ours.
    pub dlog: f64,
    /// Kafka's.
    pub kafka: f64,
}

/// All that a run measured.
#[derive(Debug, Default)]
pub struct Report {
    /// Lines about machine, versions and method.
    pub about: Vec<String>,
    /// Figures of the brokers as a whole.
    pub whole: Vec<Whole>,
    samples: Vec<(String, BTreeMap<Variant, Vec<Sample>>)>,
}

impl Report {
    /// Keeps a sample.
    pub fn add(&mut self, load: &str, variant: Variant, sample: Sample) {
        let at = match self.samples.iter().position(|(name, _)| name == load) {
            Some(at) => at,
            None => {
                self.samples.push((load.to_owned(), BTreeMap::new()));
                self.samples.len() - 1
            }
        };
        self.samples[at].1.entry(variant).or_default().push(sample);
    }

    /// Everything as Markdown.
    ///
    /// # Errors
    /// Never in practice: writing to a string does not fail.
    pub fn markdown(&self) -> Result<String> {
        let mut text = String::new();
        for line in &self.about {
            writeln!(text, "- {line}")?;
        }
        text.push_str(&wholes(&self.whole)?);
        writeln!(
            text,
            "\n| load | measure | dlog fsync | dlog os | Kafka fsync | Kafka os | fsync / fsync | os / os | dlog fsync / Kafka os |\n|---|---|---|---|---|---|---|---|---|"
        )?;
        for (load, samples) in &self.samples {
            for (measure, value, better) in MEASURES {
                let medians = VARIANTS.map(|variant| {
                    let samples = samples.get(&variant)?;
                    median(samples.iter().filter_map(value))
                });
                if medians.iter().all(Option::is_none) {
                    continue;
                }
                write!(text, "| {load} | {measure} |")?;
                for median in medians {
                    write!(text, " {} |", median.map_or("–".to_owned(), number))?;
                }
                for (ours, theirs) in comparisons() {
                    let pair = (at(&medians, ours), at(&medians, theirs));
                    let shown = match pair {
                        (Some(ours), Some(theirs)) => emphasised(ours / theirs, better),
                        _ => "–".to_owned(),
                    };
                    write!(text, " {shown} |")?;
                }
                writeln!(text)?;
            }
        }
        Ok(text)
    }

    /// The samples themselves, for whoever wants another statistic.
    ///
    /// # Errors
    /// An I/O error.
    pub fn write_json(&self, path: &Path) -> Result<()> {
        let loads: Vec<_> = self
            .samples
            .iter()
            .map(|(load, variants)| {
                let variants: Vec<_> = variants
                    .iter()
                    .map(|((kind, durability), samples)| {
                        serde_json::json!({"broker": kind, "durability": durability, "samples": samples})
                    })
                    .collect();
                serde_json::json!({"load": load, "variants": variants})
            })
            .collect();
        let report = serde_json::json!({"about": self.about, "whole": self.whole, "loads": loads});
        let file = fs::File::create(path)?;
        serde_json::to_writer_pretty(io::BufWriter::new(file), &report)?;
        Ok(())
    }

    /// Puts the tables into the documentation.
    ///
    /// # Errors
    /// An I/O error, or a document without the marks.
    pub fn write_docs(&self, root: &Path) -> Result<()> {
        replace_in_docs(root, (BEGIN, END), &self.markdown()?)
    }
}

/// Figures of the brokers as wholes, as a table.
///
/// # Errors
/// Never in practice: writing to a string does not fail.
fn wholes(rows: &[Whole]) -> Result<String> {
    let mut text = "\n| | dlog | Kafka | dlog / Kafka |\n|---|---|---|---|\n".to_owned();
    for row in rows {
        let ratio = row.dlog / row.kafka;
        let (dlog, kafka) = (number(row.dlog), number(row.kafka));
        writeln!(text, "| {} | {dlog} | {kafka} | {ratio:.3} |", row.name)?;
    }
    Ok(text)
}

/// The duties of the brokers as Markdown.
///
/// # Errors
/// Never in practice: writing to a string does not fail.
pub fn duties_markdown(about: &[String], rows: &[Whole]) -> Result<String> {
    let about: String = about.iter().map(|line| format!("- {line}\n")).collect();
    Ok(about + &wholes(rows)?)
}

/// Puts them into the documentation.
///
/// # Errors
/// An I/O error, or a document without the marks.
pub fn write_duties(root: &Path, markdown: &str) -> Result<()> {
    replace_in_docs(root, (DUTIES_BEGIN, DUTIES_END), markdown)
}

fn replace_in_docs(root: &Path, (begin, end): (&str, &str), markdown: &str) -> Result<()> {
    let path = root.join("docs/PERFORMANCE.md");
    let text = fs::read_to_string(&path).context("docs/PERFORMANCE.md")?;
    fs::write(&path, replace_between(&text, begin, end, markdown)?)?;
    Ok(())
}

/// Which columns are compared: the same durability, and ours with more of it than theirs.
fn comparisons() -> [(Variant, Variant); 3] {
    let (fsync, os) = (Durability::Fsync, Durability::Os);
    [
        ((Kind::Dlog, fsync), (Kind::Kafka, fsync)),
        ((Kind::Dlog, os), (Kind::Kafka, os)),
        ((Kind::Dlog, fsync), (Kind::Kafka, os)),
    ]
}

fn at(medians: &[Option<f64>; 4], variant: Variant) -> Option<f64> {
    let column = VARIANTS.iter().position(|other| *other == variant)?;
    medians[column]
}

/// The value in the middle; between two of an even number.
pub(super) fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        even if even % 2 == 0 => Some(f64::midpoint(values[middle - 1], values[middle])),
        _ => Some(values[middle]),
    }
}

/// Three digits that mean something.
fn number(value: f64) -> String {
    match value {
        v if v >= 1e6 => format!("{:.2} M", v / 1e6),
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}

/// A ratio; bold where ours is the worse one, so that nobody has to look for it.
fn emphasised(ratio: f64, better: Better) -> String {
    let worse = match better {
        Better::More => ratio < 1.0,
        Better::Less => ratio > 1.0,
    };
    if worse {
        format!("**{ratio:.2}**")
    } else {
        format!("{ratio:.2}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(mb_per_s: f64) -> Sample {
        Sample {
            mb_per_s: Some(mb_per_s),
            ..Sample::default()
        }
    }

    #[test]
    fn medians_and_ratios_stand_in_the_table() {
        let mut report = Report::default();
        for rate in [10.0, 400.0, 200.0] {
            report.add("a load", (Kind::Dlog, Durability::Os), sample(rate));
        }
        report.add("a load", (Kind::Kafka, Durability::Os), sample(400.0));
        let text = report.markdown().unwrap();
        let row = text.lines().find(|line| line.contains("MB/s |")).unwrap();
        assert_eq!(
            row,
            "| a load | MB/s | – | 200 | – | 400 | – | **0.50** | – |"
        );
    }

    #[test]
    fn an_even_number_of_samples_has_its_median_between_two() {
        assert_eq!(median([1.0, 4.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median([7.0]), Some(7.0));
        assert_eq!(median([]), None);
    }
}
