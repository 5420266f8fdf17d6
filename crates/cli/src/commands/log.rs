//! `dlog log`: look into, check and mend the segments of a log's folder, offline.
//!
//! Reading (`dump`, `verify`) changes nothing and needs no lock; `repair-index` and `convert` refuse
//! a folder that a process has open. Exit code 1 says that damage was found.

mod dump;
mod maintain;
pub(super) mod render;
mod verify;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use dlog_storage::record::Compression;
use indicatif::{ProgressBar, ProgressStyle};

/// Arguments of `dlog log`.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 all is sound; 1 damage was found, or it failed; 2 wrong usage."
)]
pub struct LogArgs {
    #[command(subcommand)]
    command: LogCommand,
}

#[derive(Debug, Subcommand)]
enum LogCommand {
    /// Show the batches (or v1 messages) of a log, and their records
    Dump(DumpArgs),
    /// Read every byte of a log and check every checksum
    Verify(VerifyArgs),
    /// Make the indexes of a log anew: offsets, times, aborted transactions
    RepairIndex(RepairIndexArgs),
    /// Rewrite the segments of the original format (v1) as Kafka record batches (v2)
    Convert(ConvertArgs),
}

#[derive(Debug, Args)]
struct DumpArgs {
    /// A log's folder (`topic-0`), one segment file (`….log`), or an index of aborted transactions
    /// (`….txnindex`)
    path: PathBuf,
    /// Begin with the batch that holds this offset
    #[arg(long, value_name = "OFFSET", default_value_t = 0)]
    from: i64,
    /// End after this many batches; with --records, after this many records
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Decode the records too
    #[arg(long)]
    records: bool,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct VerifyArgs {
    /// A log's folder, one segment file, or a data folder with many logs
    path: PathBuf,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct RepairIndexArgs {
    /// A log's folder, or a data folder with many logs; no process may have it open
    dir: PathBuf,
    /// Bytes of log for each index entry
    #[arg(long, value_name = "BYTES", default_value_t = 4096)]
    interval: u32,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct ConvertArgs {
    /// A log's folder, or a data folder with many logs; no process may have it open
    dir: PathBuf,
    /// Codec of the new batches: none, gzip, snappy, lz4, zstd
    #[arg(long, value_name = "CODEC", default_value = "none")]
    compression: Compression,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

/// Runs `dlog log …`.
///
/// # Errors
/// The folder cannot be read or written; damage is an exit code, not an error.
pub fn run(args: &LogArgs) -> Result<ExitCode> {
    // One lock and one buffer for the whole output: a dump can have millions of lines.
    let mut out = io::BufWriter::new(io::stdout().lock());
    let result = match &args.command {
        LogCommand::Dump(args) => dump::run(args, &mut out),
        LogCommand::Verify(args) => verify::run(args, &mut out),
        LogCommand::RepairIndex(args) => maintain::repair_index(args, &mut out),
        LogCommand::Convert(args) => maintain::convert(args, &mut out),
    };
    let sound = result?;
    out.flush()?;
    Ok(if sound {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The logs below a path: itself when it is a segment or holds segments, else its folders that do.
fn logs_at(path: &Path) -> Result<Vec<PathBuf>> {
    if path.is_file() || holds_segments(path)? {
        return Ok(vec![path.to_path_buf()]);
    }
    let mut logs = Vec::new();
    for entry in
        std::fs::read_dir(path).with_context(|| format!("cannot list {}", path.display()))?
    {
        let entry = entry?.path();
        if entry.is_dir() && holds_segments(&entry)? {
            logs.push(entry);
        }
    }
    if logs.is_empty() {
        bail!(
            "{} has no segment files (….log), neither itself nor in the folders below it",
            path.display()
        );
    }
    logs.sort();
    Ok(logs)
}

fn holds_segments(dir: &Path) -> Result<bool> {
    let entries =
        std::fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))?;
    for entry in entries {
        if entry?
            .path()
            .extension()
            .is_some_and(|extension| extension == "log")
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A bar over the bytes of all logs; invisible unless standard error is a terminal.
fn progress_bar(logs: &[PathBuf]) -> Result<ProgressBar> {
    let mut total = 0;
    for log in logs {
        total += dlog_storage::offline::total_bytes(log)?;
    }
    let style = ProgressStyle::with_template(
        "{bar:40} {bytes} of {total_bytes}  {binary_bytes_per_sec}  {eta} left",
    )?;
    Ok(ProgressBar::new(total).with_style(style))
}
