//! The rows: installs the package that has them, turns them into lines once, holds them in memory.
//!
//! The package is pinned in `tests/compat/dataset` and installed by npm, which checks it against the
//! lock file. A line is the row's number, a tab, and the row as JSON: what is sent as key and value,
//! and what a reader must give back. *Row N is line N and begins with N; [`DIGEST`] says that the lines
//! are those of the real data set, whoever made them.*

use std::fs;
use std::io::BufRead;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};

use crate::compat::must;

/// SHA-256 of all lines.
const DIGEST: &str = "2898e2d83eef1351f4de75a544632dbb9042d2a2c956ad3dc61b410652afe21d";

/// Where the data set comes from, for the report.
pub const SOURCE: &str = "flights-3m.parquet of npm's vega-datasets 2.11.0";

/// Rows as lines, by number.
#[derive(Debug)]
pub struct Rows {
    text: Vec<u8>,
    /// Where each line ends, behind its line end.
    ends: Vec<usize>,
}

impl Rows {
    /// Splits a text into its lines.
    ///
    /// # Errors
    /// When a line does not begin with its number and a tab, or the last one has no end.
    pub fn new(text: Vec<u8>) -> Result<Self> {
        let mut ends = Vec::new();
        let mut left = text.as_slice();
        while !left.is_empty() {
            let number = format!("{}\t", ends.len());
            ensure!(
                left.starts_with(number.as_bytes()),
                "line {} does not begin with its number",
                ends.len()
            );
            left.skip_until(b'\n')?;
            ends.push(text.len() - left.len());
        }
        ensure!(
            text.is_empty() || text.ends_with(b"\n"),
            "the last line has no end"
        );
        Ok(Self { text, ends })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// A row's line without its end; none when there is no such row.
    pub fn line(&self, row: usize) -> Option<&[u8]> {
        let end = *self.ends.get(row)?;
        Some(&self.text[self.start(row)..end - 1])
    }

    /// The lines of a range with their ends.
    ///
    /// # Panics
    /// When the range is not within the rows.
    pub fn bytes(&self, range: Range<usize>) -> &[u8] {
        &self.text[self.start(range.start)..self.start(range.end)]
    }

    fn start(&self, row: usize) -> usize {
        if row == 0 { 0 } else { self.ends[row - 1] }
    }
}

/// SHA-256 as hexadecimal digits.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The rows of the data set; those lines that an earlier run made are taken when they are right.
///
/// # Errors
/// When the package cannot be installed or has not the rows that it should have.
pub fn fetch(root: &Path, python: &Path) -> Result<Rows> {
    let lines = root.join("target/compat/dataset/flights.lines");
    if let Ok(text) = fs::read(&lines)
        && sha256(&text) == DIGEST
    {
        return Rows::new(text);
    }
    let parquet = install(root)?.join("flights-3m.parquet");
    must(
        Command::new(python)
            .arg(root.join("tests/compat/python/flights_rows.py"))
            .arg(&parquet)
            .arg(&lines)
            .env("PYTHONDONTWRITEBYTECODE", "1"),
    )?;
    let text = fs::read(&lines).with_context(|| format!("cannot read {}", lines.display()))?;
    let found = sha256(&text);
    if found != DIGEST {
        bail!(
            "{} has SHA-256 {found}, expected {DIGEST}: is it another data set, or another form of its rows?",
            lines.display()
        );
    }
    Rows::new(text)
}

/// Has npm install the package; the folder of its data.
fn install(root: &Path) -> Result<PathBuf> {
    let folder = root.join("target/compat/dataset");
    fs::create_dir_all(&folder)?;
    for name in ["package.json", "package-lock.json"] {
        fs::copy(
            root.join("tests/compat/dataset").join(name),
            folder.join(name),
        )?;
    }
    must(
        Command::new("npm")
            .args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"])
            .current_dir(&folder),
    )?;
    Ok(folder.join("node_modules/vega-datasets/data"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_found_by_number() {
        let rows = Rows::new(b"0\ta\n1\t\n2\tccc\n".to_vec()).unwrap();
        assert_eq!(rows.len(), 3);
        assert_eq!(rows.line(0), Some(&b"0\ta"[..]));
        assert_eq!(rows.line(1), Some(&b"1\t"[..]));
        assert_eq!(rows.line(3), None);
        assert_eq!(rows.bytes(1..3), b"1\t\n2\tccc\n");
        assert_eq!(rows.bytes(3..3), b"");
    }

    #[test]
    fn lines_that_are_not_numbered_are_refused() {
        for text in ["1\ta\n", "0\ta\n2\tb\n", "0\ta\n\n", "0\ta"] {
            assert!(Rows::new(text.as_bytes().to_vec()).is_err(), "{text:?}");
        }
    }
}
