//! `dlog log dump`.

use std::io::Write;

use anyhow::{Result, ensure};
use dlog_storage::StorageError;
use dlog_storage::offline::{self, DumpedFrame};
use dlog_storage::record::control::EndTxnMarker;
use dlog_storage::record::{Batch, Record, RecordError, v1};
use serde_json::{Map, Value, json};

use super::{DumpArgs, render};

/// Shows what was asked for; answers whether all of it was sound.
pub(super) fn run(args: &DumpArgs, out: &mut impl Write) -> Result<bool> {
    if args.path.extension().is_some_and(|end| end == "txnindex") {
        return aborted(args, out);
    }
    ensure!(
        args.path.is_file() || super::holds_segments(&args.path)?,
        "{} has no segment files (….log): give a log's folder, such as orders-0, or one segment file",
        args.path.display()
    );
    let mut dump = Dump {
        args,
        out,
        left: args.count.unwrap_or(u64::MAX),
        sound: true,
    };
    if dump.left == 0 {
        return Ok(true);
    }
    if !args.json {
        dump.heading()?;
    }
    let mut failed = None;
    let walked = offline::dump(&args.path, args.from, |frame| match dump.frame(&frame) {
        Ok(()) => dump.left > 0,
        Err(error) => {
            failed = Some(error);
            false
        }
    });
    if let Some(error) = failed {
        return Err(error);
    }
    match walked {
        Ok(()) => Ok(dump.sound),
        // What comes before the damage was shown.
        Err(error @ StorageError::Damaged { .. }) => {
            dump.out.flush()?;
            eprintln!("{error}");
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}

/// Shows an index of aborted transactions.
fn aborted(args: &DumpArgs, out: &mut impl Write) -> Result<bool> {
    let transactions = match offline::aborted_transactions(&args.path) {
        Ok(transactions) => transactions,
        Err(error @ StorageError::Damaged { .. }) => {
            eprintln!("{error}");
            return Ok(false);
        }
        Err(error) => return Err(error.into()),
    };
    if !args.json {
        writeln!(
            out,
            "{:>20} {:>12} {:>12} {:>12}",
            "producer", "first", "last", "stable"
        )?;
    }
    let most = args.count.map_or(usize::MAX, |count| {
        usize::try_from(count).unwrap_or(usize::MAX)
    });
    let shown = transactions
        .iter()
        .filter(|one| one.last_offset >= args.from);
    for one in shown.take(most) {
        if args.json {
            let object = json!({
                "producer_id": one.producer_id,
                "first_offset": one.first_offset,
                "last_offset": one.last_offset,
                "last_stable_offset": one.last_stable_offset,
            });
            writeln!(out, "{object}")?;
        } else {
            writeln!(
                out,
                "{:>20} {:>12} {:>12} {:>12}",
                one.producer_id, one.first_offset, one.last_offset, one.last_stable_offset
            )?;
        }
    }
    Ok(true)
}

struct Dump<'a, W> {
    args: &'a DumpArgs,
    out: &'a mut W,
    /// How many batches or records are still to be shown.
    left: u64,
    sound: bool,
}

impl<W: Write> Dump<'_, W> {
    fn heading(&mut self) -> Result<()> {
        Ok(writeln!(
            self.out,
            "{:>12} {:>12} {:>11} {:>9} {:>7} {:<6} {:<24} {:>20} {:>5} {:<9} crc",
            "first",
            "last",
            "position",
            "bytes",
            "records",
            "codec",
            "max timestamp",
            "producer:epoch:seq",
            "epoch",
            "kind",
        )?)
    }

    fn frame(&mut self, frame: &DumpedFrame) -> Result<()> {
        self.sound &= frame.sound;
        let records = if self.args.records {
            Some(decode(frame))
        } else {
            None
        };
        if self.args.json {
            self.frame_json(frame)?;
        } else {
            self.frame_line(frame)?;
        }
        match records {
            None => self.left -= 1,
            Some(Ok(records)) => {
                for record in records
                    .iter()
                    .filter(|record| record.offset >= self.args.from)
                {
                    if self.left == 0 {
                        break;
                    }
                    self.record(record)?;
                    self.left -= 1;
                }
            }
            Some(Err(error)) => {
                self.sound = false;
                self.unreadable(frame, &error)?;
            }
        }
        Ok(())
    }

    fn frame_line(&mut self, frame: &DumpedFrame) -> Result<()> {
        let header = frame.header.as_ref();
        let count = header.map_or(1, |header| header.record_count);
        let producer = header
            .filter(|header| header.has_producer_id())
            .map_or_else(
                || "-".to_owned(),
                |header| {
                    format!(
                        "{}:{}:{}",
                        header.producer_id, header.producer_epoch, header.base_sequence
                    )
                },
            );
        let epoch = header.map_or_else(
            || "-".to_owned(),
            |header| header.partition_leader_epoch.to_string(),
        );
        let horizon = header
            .and_then(|header| header.delete_horizon_ms())
            .map_or_else(String::new, |horizon_ms| {
                format!("  tombstones stay until {}", render::time(horizon_ms))
            });
        Ok(writeln!(
            self.out,
            "{:>12} {:>12} {:>11} {:>9} {:>7} {:<6} {:<24} {:>20} {:>5} {:<9} {}{horizon}",
            frame.offsets.0,
            frame.offsets.1,
            frame.position,
            frame.bytes,
            count,
            codec(frame),
            render::time(frame.max_timestamp_ms),
            producer,
            epoch,
            kind(frame),
            if frame.sound { "ok" } else { "BAD" },
        )?)
    }

    fn frame_json(&mut self, frame: &DumpedFrame) -> Result<()> {
        let mut object = json!({
            "segment": frame.path.display().to_string(),
            "position": frame.position,
            "bytes": frame.bytes,
            "base_offset": frame.offsets.0,
            "last_offset": frame.offsets.1,
            "max_timestamp_ms": frame.max_timestamp_ms,
            "codec": codec(frame),
            "kind": kind(frame),
            "sound": frame.sound,
        });
        if let (Some(header), Value::Object(object)) = (&frame.header, &mut object) {
            object.insert("records".to_owned(), header.record_count.into());
            object.insert(
                "leader_epoch".to_owned(),
                header.partition_leader_epoch.into(),
            );
            object.insert("producer_id".to_owned(), header.producer_id.into());
            object.insert("producer_epoch".to_owned(), header.producer_epoch.into());
            object.insert("base_sequence".to_owned(), header.base_sequence.into());
            object.insert("attributes".to_owned(), header.attributes.into());
            object.insert("crc".to_owned(), header.crc.into());
            if let Some(horizon_ms) = header.delete_horizon_ms() {
                object.insert("delete_horizon_ms".to_owned(), horizon_ms.into());
            }
        }
        Ok(writeln!(self.out, "{object}")?)
    }

    fn record(&mut self, record: &Record) -> Result<()> {
        if self.args.json {
            let mut object = Map::new();
            object.insert("offset".to_owned(), record.offset.into());
            object.insert("timestamp_ms".to_owned(), record.timestamp_ms.into());
            render::put_bytes(&mut object, "key", record.key.as_deref());
            render::put_bytes(&mut object, "value", record.value.as_deref());
            object.insert("headers".to_owned(), render::headers_json(&record.headers));
            return Ok(writeln!(self.out, "{}", Value::Object(object))?);
        }
        let (key, value) = (
            render::text(record.key.as_deref()),
            render::text(record.value.as_deref()),
        );
        write!(
            self.out,
            "{:>12}   {}  {key} => {value}",
            record.offset,
            render::time(record.timestamp_ms)
        )?;
        for header in &record.headers {
            let (key, value) = (
                render::text(Some(&header.key)),
                render::text(header.value.as_deref()),
            );
            write!(self.out, "  [{key}: {value}]")?;
        }
        Ok(writeln!(self.out)?)
    }

    fn unreadable(&mut self, frame: &DumpedFrame, error: &RecordError) -> Result<()> {
        if self.args.json {
            let object = json!({ "base_offset": frame.offsets.0, "error": error.to_string() });
            return Ok(writeln!(self.out, "{object}")?);
        }
        Ok(writeln!(
            self.out,
            "{:>12}   the records cannot be read: {error}",
            frame.offsets.0
        )?)
    }
}

fn codec(frame: &DumpedFrame) -> String {
    let attributes = match &frame.header {
        Some(header) => header.attributes,
        // Byte 9 of a v1 message.
        None => frame.content.get(9).copied().unwrap_or_default().into(),
    };
    dlog_storage::record::Compression::from_attributes(attributes)
        .map_or_else(|_| "?".to_owned(), |codec| codec.to_string())
}

fn kind(frame: &DumpedFrame) -> &'static str {
    match &frame.header {
        None => "v1",
        Some(header) if header.is_control() => {
            let batch = Batch::from_bytes(frame.content.clone());
            match batch.and_then(|batch| EndTxnMarker::from_batch(&batch)) {
                Ok(Some(marker)) if marker.committed => "commit",
                Ok(Some(_)) => "abort",
                _ => "control",
            }
        }
        Some(header) if header.is_transactional() => "txn",
        Some(_) => "data",
    }
}

fn decode(frame: &DumpedFrame) -> Result<Vec<Record>, RecordError> {
    if frame.header.is_none() {
        let message = v1::decode(&frame.content)?;
        let (timestamp_ms, key, value) = (message.timestamp_ms, message.key, message.value);
        return Ok(vec![Record {
            offset: frame.offsets.0,
            timestamp_ms,
            key,
            value,
            headers: Vec::new(),
        }]);
    }
    Batch::from_bytes(frame.content.clone())?
        .records()?
        .collect()
}
