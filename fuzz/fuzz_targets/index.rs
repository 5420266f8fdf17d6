//! Fuzzed index files beside a sound log: whatever an index says, the records are found.
#![no_main]

use std::sync::OnceLock;

use dlog_fuzz::{DIR, config, env, segment_file};
use dlog_storage::disk::{Disk, SimDisk};
use dlog_storage::{Format, Log, NewRecord};
use libfuzzer_sys::fuzz_target;

const RECORDS: i64 = 30;

struct Sound {
    disk: SimDisk,
    bases: Vec<i64>,
}

/// A log of several segments with indexes, closed in order.
fn sound() -> &'static Sound {
    static SOUND: OnceLock<Sound> = OnceLock::new();
    SOUND.get_or_init(|| {
        let disk = SimDisk::new();
        let (log, _) =
            Log::open_with(&env(&disk), DIR, config(Format::V2)).expect("a new log opens");
        for i in 0..RECORDS {
            let value = format!("value {i}");
            let record = NewRecord {
                timestamp_ms: Some(timestamp(i)),
                ..NewRecord::new(None, Some(value.as_bytes()))
            };
            log.append_records(&[record]).expect("an append");
        }
        log.close().expect("a close");
        let files = disk.list(std::path::Path::new(DIR)).expect("a folder");
        let bases: Vec<i64> = files
            .iter()
            .filter_map(|file| file.name.strip_suffix(".log")?.parse().ok())
            .collect();
        assert!(bases.len() >= 3, "the log spans segments");
        Sound { disk, bases }
    })
}

/// Not in the order of offsets, as producers' clocks are not.
fn timestamp(i: i64) -> i64 {
    10_000 + i * 100 - (i % 5) * 250
}

fuzz_target!(|data: &[u8]| {
    let Some((choice, bytes)) = data.split_first() else {
        return;
    };
    let sound = sound();
    let disk = sound.disk.process_kill();
    let base = sound.bases[usize::from(choice >> 2) % sound.bases.len()];
    let extension = if choice & 1 == 0 {
        "index"
    } else {
        "timeindex"
    };
    disk.set_content(&segment_file(base, extension), bytes.to_vec());
    if choice & 2 == 2 {
        // Without the checkpoint everything is found out anew.
        let _ = disk.remove_file(&std::path::Path::new(DIR).join("checkpoint"));
    }
    let (log, report) =
        Log::open_with(&env(&disk), DIR, config(Format::V2)).expect("an index is never needed");
    assert_eq!(
        (log.log_start_offset(), log.log_end_offset()),
        (0, RECORDS),
        "{report:?}"
    );
    for from in 0..RECORDS {
        let first = log
            .read(from)
            .expect("readable")
            .next()
            .expect("a record")
            .expect("a sound record");
        assert_eq!(first.offset, from, "a wrong record");
    }
    for at in [0, 9_000, 10_000, 10_333, 11_000, 12_900, 20_000] {
        let found = log.offset_for_timestamp(at).expect("a search");
        // A time index with plausible lies may cost earlier records, but never invents one.
        if let Some(found) = found {
            assert!((0..RECORDS).contains(&found.offset) && found.timestamp_ms >= at);
            assert_eq!(found.timestamp_ms, timestamp(found.offset));
        }
    }
    log.max_timestamp().expect("a search");
    assert_eq!(log.append(None, Some(b"next")).expect("an append"), RECORDS);
});
