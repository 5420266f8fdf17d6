//! A folder with fuzzed files: it opens or is refused; it never panics, never invents a byte, and
//! what it made of the folder once, it makes of it again. A forged checkpoint (a lie with a sound
//! checksum, which no damage makes) may cost the last of these.
//!
//! Input: one byte of flags, then files: kind (1 byte), length (2 bytes), content.
#![no_main]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use dlog_fuzz::{
    DIR, config, env, repair_batches, repair_checkpoint, repair_messages, segment_file,
};
use dlog_storage::disk::{Disk, SimDisk};
use dlog_storage::{AbortedTransaction, Format, Log};
use libfuzzer_sys::fuzz_target;

const REPAIR: u8 = 1;
const V1: u8 = 2;
const COMPACTED: u8 = 4;

struct Folder {
    files: BTreeMap<PathBuf, Vec<u8>>,
    forged_checkpoint: bool,
}

fn file_of(kind: u8) -> PathBuf {
    let base = [0, 0, 3, 6, 10, i64::MAX][usize::from(kind / 8) % 6];
    match kind % 8 {
        0..3 => segment_file(base, "log"),
        3 => Path::new(DIR).join("checkpoint"),
        4 => segment_file(base, "index"),
        5 if kind & 0x80 != 0 => segment_file(base, "txnindex"),
        5 => segment_file(base, "timeindex"),
        6 => segment_file(base, "snapshot"),
        _ => Path::new(DIR).join("leader-epoch-checkpoint"),
    }
}

fn split_files(mut data: &[u8], flags: u8) -> Folder {
    let mut files = BTreeMap::new();
    let mut forged_checkpoint = false;
    while let [kind, high, low, rest @ ..] = data {
        let len = usize::from(u16::from_be_bytes([*high, *low])).min(rest.len());
        let (content, next) = rest.split_at(len);
        let path = file_of(*kind);
        let mut content = content.to_vec();
        if flags & REPAIR != 0 {
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("log") if flags & V1 != 0 => repair_messages(&mut content),
                Some("log") => repair_batches(&mut content),
                None if path.ends_with("checkpoint") => {
                    let before = content.clone();
                    repair_checkpoint(&mut content);
                    forged_checkpoint = content != before;
                }
                _ => {}
            }
        }
        files.insert(path, content);
        data = next;
    }
    Folder {
        files,
        forged_checkpoint,
    }
}

/// Offsets and values of everything that can be read.
fn contents(log: &Log) -> Option<Vec<(i64, Option<Vec<u8>>)>> {
    let mut found = Vec::new();
    let mut last = i64::MIN;
    for record in log.read(log.log_start_offset()).ok()? {
        // A checksum says nothing about what is inside a batch; such a batch is an error, not a panic.
        let record = record.ok()?;
        assert!(record.offset > last, "offsets ascend");
        assert!(record.offset < log.log_end_offset(), "behind the end");
        last = record.offset;
        found.push((record.offset, record.value.map(|value| value.to_vec())));
    }
    Some(found)
}

/// What readers of committed records are told: the last stable offset and the aborted transactions.
fn committed(log: &Log) -> (i64, Option<Vec<AbortedTransaction>>) {
    let (start, stable) = (log.log_start_offset(), log.last_stable_offset());
    assert!((start..=log.acknowledged_end().max(start)).contains(&stable));
    let _ = log.read_committed(start, 1 << 10);
    (stable, log.aborted_transactions(start, stable).ok())
}

fuzz_target!(|data: &[u8]| {
    let Some((flags, data)) = data.split_first() else {
        return;
    };
    let Folder {
        files,
        forged_checkpoint,
    } = split_files(data, *flags);
    let disk = SimDisk::new();
    disk.create_dir_all(Path::new(DIR)).expect("a folder");
    for (path, content) in &files {
        disk.set_content(path, content.clone());
    }
    let mut config = config(if flags & V1 != 0 {
        Format::V1
    } else {
        Format::V2
    });
    config.cleanup.compact = flags & COMPACTED != 0;
    let Ok((log, _)) = Log::open_with(&env(&disk), DIR, config.clone()) else {
        return;
    };
    for file in disk.list(Path::new(DIR)).expect("a folder") {
        if file.name.ends_with(".log") {
            let path = Path::new(DIR).join(&file.name);
            let now = disk.content(&path).expect("a listed file");
            let before = files.get(&path).map_or(&[][..], |content| &content[..]);
            assert!(
                before.starts_with(&now),
                "{} has bytes that nobody wrote",
                file.name
            );
        }
    }
    let read = contents(&log);
    let ends = (log.log_start_offset(), log.log_end_offset());
    let told = committed(&log);
    let _ = log.offset_for_timestamp(0);
    let _ = log.max_timestamp();
    drop(log);
    if forged_checkpoint {
        return;
    }
    // A second crash right after recovery finds the same log.
    let disk = disk.power_loss(u64::from(*flags));
    let (log, report) = Log::open_with(&env(&disk), DIR, config).expect("what was recovered opens");
    assert_eq!(report.cut, None, "recovery left something to cut");
    assert_eq!((log.log_start_offset(), log.log_end_offset()), ends);
    assert_eq!(committed(&log), told);
    if let Some(read) = read {
        assert_eq!(contents(&log).as_ref(), Some(&read));
    }
    if ends.1 < i64::MAX - 2
        && let Ok(offset) = log.append(None, Some(b"next"))
    {
        assert_eq!(offset, ends.1);
    }
});
