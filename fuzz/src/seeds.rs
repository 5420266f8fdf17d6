//! Writes the seed corpus: real batches, real folders, real requests. `cargo run --bin seeds`, in the
//! folder of this crate; names say what a seed is, the fuzzer's own finds have hashes for names.

use std::fs;
use std::path::Path;

use bytes::{BufMut, Bytes, BytesMut};
use dlog_fuzz::{DIR, config, env, segment_file};
use dlog_storage::disk::{Disk, SimDisk};
use dlog_storage::record::{BatchBuilder, Compression, Header, v1};
use dlog_storage::{Format, Log, NewRecord};
use dlog_system_tests::requests::{newer, samples};
use dlog_system_tests::wire::encode_kind;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    batches()?;
    folders()?;
    indexes()?;
    requests()
}

fn write(target: &str, name: &str, content: &[u8]) -> Result<()> {
    let dir = Path::new("corpus").join(target);
    fs::create_dir_all(&dir)?;
    Ok(fs::write(dir.join(name), content)?)
}

fn batch(compression: Compression) -> Result<Bytes> {
    let headers = [
        Header {
            key: "h".into(),
            value: Some("v".into()),
        },
        Header {
            key: "n".into(),
            value: None,
        },
    ];
    let mut builder = BatchBuilder::new()
        .compression(compression, None)
        .producer(7, 1, 3);
    builder.push(1_000, Some(b"key"), Some(b"value value value"), &headers)?;
    builder.push(1_001, None, None, &[])?;
    builder.push(999, Some(b""), Some(b""), &[])?;
    Ok(builder.build()?)
}

fn batches() -> Result<()> {
    for compression in Compression::ALL {
        write(
            "batch",
            &format!("seed-v2-{compression}"),
            &[&[0][..], &batch(compression)?].concat(),
        )?;
        let mut message = BytesMut::new();
        v1::encode(
            &mut message,
            1_000,
            Some(b"key"),
            Some(b"value value"),
            compression,
        )?;
        write(
            "batch",
            &format!("seed-v1-{compression}"),
            &[&[2][..], &message].concat(),
        )?;
    }
    Ok(())
}

/// A log of a few segments, closed or killed.
fn log(format: Format, close: bool) -> Result<SimDisk> {
    let disk = SimDisk::new();
    let (log, _) = Log::open_with(&env(&disk), DIR, config(format))?;
    for i in 0..10_u8 {
        let value = vec![b'a' + i; 60];
        log.append_records(&[NewRecord::new(Some(b"k"), Some(&value))])?;
        log.append(None, Some(b"v"))?;
    }
    if close {
        log.close()?;
    }
    drop(log);
    Ok(disk.process_kill())
}

/// The kinds of the recovery target's input; see `file_of` there. Its bases are fixed, so segments of
/// the log are moved to the nearest one.
fn folders() -> Result<()> {
    for (format, flag) in [(Format::V2, 1), (Format::V1, 3)] {
        for close in [false, true] {
            let disk = log(format, close)?;
            let mut input = vec![flag];
            for (kind, path) in [
                (0, segment_file(0, "log")),
                (3, Path::new(DIR).join("checkpoint")),
                (4, segment_file(0, "index")),
                (5, segment_file(0, "timeindex")),
                (7, Path::new(DIR).join("leader-epoch-checkpoint")),
            ] {
                let Ok(content) = disk.content(&path) else {
                    continue;
                };
                input.put_u8(kind);
                input.put_u16(u16::try_from(content.len())?);
                input.extend(content);
            }
            write(
                "recovery",
                &format!(
                    "seed-{format:?}-{}",
                    if close { "closed" } else { "killed" }
                ),
                &input,
            )?;
        }
    }
    Ok(())
}

fn indexes() -> Result<()> {
    let disk = log(Format::V2, true)?;
    for file in disk.list(Path::new(DIR))? {
        let content = disk.content(&Path::new(DIR).join(&file.name))?;
        match file.name.rsplit_once('.') {
            Some((base, "index")) => write(
                "index",
                &format!("seed-{base}-index"),
                &[&[0][..], &content].concat(),
            )?,
            Some((base, "timeindex")) => write(
                "index",
                &format!("seed-{base}-time"),
                &[&[1][..], &content].concat(),
            )?,
            _ => {}
        }
    }
    Ok(())
}

fn requests() -> Result<()> {
    let mut stream = vec![0];
    for (i, (api, request)) in samples("topic").into_iter().enumerate() {
        let Some(served) = dlog_broker::protocol::served::find(api) else {
            continue;
        };
        for version in [served.min, served.max] {
            let Ok(frame) = encode_kind(api, version, 7, &request) else {
                continue;
            };
            write(
                "request",
                &format!("seed-{i:02}-{api:?}-v{version}"),
                &frame[4..],
            )?;
            if frame.len() < 200 && stream.len() < 1_000 {
                stream.extend(&frame);
            }
        }
    }
    for (api, version, frame) in newer("topic") {
        write(
            "request",
            &format!("seed-newer-{api:?}-v{version}"),
            &frame[4..],
        )?;
    }
    write("frame", "seed-requests", &stream)
}
