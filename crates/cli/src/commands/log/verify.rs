//! `dlog log verify`.

use std::io::Write;
use std::time::Instant;

use anyhow::Result;
use dlog_storage::offline::{self, SegmentReport};
use serde_json::json;

use super::{VerifyArgs, logs_at, progress_bar, render};

/// Reads everything; answers whether it was sound.
pub(super) fn run(args: &VerifyArgs, out: &mut impl Write) -> Result<bool> {
    let logs = logs_at(&args.path)?;
    let bar = progress_bar(&logs)?;
    let begin = Instant::now();
    let mut reports = Vec::new();
    for log in &logs {
        reports.extend(offline::verify(log, |bytes| bar.inc(bytes))?);
    }
    bar.finish_and_clear();
    let sound = reports.iter().all(|report| report.damage.is_none());
    if args.json {
        writeln!(out, "{}", to_json(&reports, sound))?;
    } else {
        table(&reports, begin.elapsed().as_secs_f64(), out)?;
    }
    Ok(sound)
}

fn to_json(reports: &[SegmentReport], sound: bool) -> serde_json::Value {
    let segments = reports.iter().map(|report| {
        json!({
            "segment": report.path.display().to_string(),
            "base_offset": report.offsets.0,
            "next_offset": report.offsets.1,
            "batches": report.frames,
            "records": report.records,
            "bytes": report.bytes,
            "missing_offsets": report.missing_offsets,
            "zero_bytes": report.zero_bytes,
            "aborted_transactions": report.aborted,
            "index_fault": report.index_fault,
            "damage": report.damage.as_ref().map(|(position, reason)| json!({
                "position": position,
                "reason": reason,
            })),
        })
    });
    json!({
        "sound": sound,
        "records": reports.iter().map(|report| report.records).sum::<u64>(),
        "bytes": reports.iter().map(|report| report.bytes).sum::<u64>(),
        "segments": segments.collect::<Vec<_>>(),
    })
}

fn table(reports: &[SegmentReport], seconds: f64, out: &mut impl Write) -> Result<()> {
    let name = |report: &SegmentReport| report.path.display().to_string();
    let width = reports
        .iter()
        .map(|report| name(report).len())
        .max()
        .unwrap_or(0)
        .max("segment".len());
    writeln!(
        out,
        "{:<width$} {:>12} {:>12} {:>9} {:>11} {:>12}  state",
        "segment", "first", "next", "batches", "records", "bytes"
    )?;
    for report in reports {
        let (first, next) = report.offsets;
        let state = match &report.damage {
            None if report.missing_offsets > 0 => {
                let missing = render::count(report.missing_offsets, "offset");
                format!("sound, compacted: {missing} gone between batches")
            }
            None => "sound".to_owned(),
            Some((position, reason)) => format!("DAMAGED at byte {position}: {reason}"),
        };
        writeln!(
            out,
            "{:<width$} {first:>12} {next:>12} {:>9} {:>11} {:>12}  {state}",
            name(report),
            report.frames,
            report.records,
            report.bytes
        )?;
    }
    let bytes: u64 = reports.iter().map(|report| report.bytes).sum();
    let records: u64 = reports.iter().map(|report| report.records).sum();
    let damaged = reports
        .iter()
        .filter(|report| report.damage.is_some())
        .count();
    let verdict = match damaged {
        0 => "all sound".to_owned(),
        1 => "1 segment is damaged".to_owned(),
        n => format!("{n} segments are damaged"),
    };
    writeln!(
        out,
        "{}, {}, {} in {seconds:.2} s ({}/s): {verdict}",
        render::count(reports.len() as u64, "segment"),
        render::count(records, "record"),
        render::bytes(bytes),
        render::bytes((bytes as f64 / seconds.max(1e-6)) as u64)
    )?;
    for fault in reports
        .iter()
        .filter_map(|report| report.index_fault.as_ref())
    {
        writeln!(
            out,
            "{fault}: nothing is lost, the index is made anew when it is needed"
        )?;
    }
    if damaged > 0 {
        writeln!(
            out,
            "Damage at the very end of the last segment is usually a torn write after a crash: opening \
             the log cuts it, unless it lies in what was known to be on the disk. Other damage needs \
             the file from a backup or a replica."
        )?;
    }
    Ok(())
}
