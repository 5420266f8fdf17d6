//! `dlog log repair-index` and `dlog log convert`.

use std::io::Write;

use anyhow::{Context, Result};
use dlog_storage::StorageError;
use dlog_storage::offline::{self, ConvertReport};
use serde_json::json;

use super::{ConvertArgs, RepairIndexArgs, logs_at, progress_bar, render};

/// Makes the indexes anew; answers whether every log was sound.
pub(super) fn repair_index(args: &RepairIndexArgs, out: &mut impl Write) -> Result<bool> {
    let logs = logs_at(&args.dir)?;
    let bar = progress_bar(&logs)?;
    let (mut segments, mut damaged) = (0, Vec::new());
    for log in &logs {
        let repaired = offline::repair_index(log, args.interval, |bytes| bar.inc(bytes));
        segments += note_damage(repaired, &mut damaged)?.unwrap_or_default();
    }
    bar.finish_and_clear();
    if args.json {
        writeln!(
            out,
            "{}",
            json!({ "segments": segments, "damaged": damaged })
        )?;
    } else {
        writeln!(
            out,
            "indexes made anew for {}",
            render::count(segments as u64, "segment")
        )?;
        list_damage(&damaged, out)?;
    }
    Ok(damaged.is_empty())
}

/// Rewrites v1 segments; answers whether every log was sound.
pub(super) fn convert(args: &ConvertArgs, out: &mut impl Write) -> Result<bool> {
    let logs = logs_at(&args.dir)?;
    let bar = progress_bar(&logs)?;
    let (mut sum, mut damaged) = (ConvertReport::default(), Vec::new());
    for log in &logs {
        let converted = offline::convert(log, args.compression, |bytes| bar.inc(bytes));
        let report = note_damage(converted, &mut damaged)?.unwrap_or_default();
        sum.segments += report.segments;
        sum.records += report.records;
        sum.bytes_before += report.bytes_before;
        sum.bytes_after += report.bytes_after;
    }
    bar.finish_and_clear();
    if args.json {
        let object = json!({
            "segments": sum.segments,
            "records": sum.records,
            "bytes_before": sum.bytes_before,
            "bytes_after": sum.bytes_after,
            "damaged": damaged,
        });
        writeln!(out, "{object}")?;
    } else if sum.segments == 0 && damaged.is_empty() {
        writeln!(
            out,
            "nothing to convert: no segment has the original format"
        )?;
    } else {
        writeln!(
            out,
            "converted {} with {}: {} before, {} after",
            render::count(sum.segments as u64, "segment"),
            render::count(sum.records, "record"),
            render::bytes(sum.bytes_before),
            render::bytes(sum.bytes_after)
        )?;
        list_damage(&damaged, out)?;
    }
    Ok(damaged.is_empty())
}

/// Damage in one log is noted, so that the others are still worked on; other errors end the run.
fn note_damage<T>(result: Result<T, StorageError>, damaged: &mut Vec<String>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error @ StorageError::Damaged { .. }) => {
            damaged.push(error.to_string());
            Ok(None)
        }
        Err(error) => Err(error).context("stopped"),
    }
}

fn list_damage(damaged: &[String], out: &mut impl Write) -> Result<()> {
    for damage in damaged {
        writeln!(out, "left as it was: {damage}")?;
    }
    Ok(())
}
