//! What a log remembers of idle producers fits into few bytes. Alone in its program: it looks at the
//! memory of the whole process.

#![allow(clippy::unwrap_used)]
#![cfg(target_os = "linux")]

use dlog_storage::record::BatchBuilder;
use dlog_storage::{AppendMode, FlushPolicy, Log, LogConfig};

const PRODUCERS: i64 = 100_000;
const LEADER: AppendMode = AppendMode::Leader {
    leader_epoch: 0,
    log_append_time: None,
};

/// Bytes of memory that the process takes.
fn resident() -> i64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: i64 = text.split(' ').nth(1).unwrap().parse().unwrap();
    pages * rustix::param::page_size() as i64
}

/// Every producer sends one batch.
fn send(log: &Log, sequence: i32) {
    for producer in 0..PRODUCERS {
        let mut batch = BatchBuilder::new().producer(producer, 0, sequence);
        batch.push(1, None, Some(b"v"), &[]).unwrap();
        log.append_batches(batch.build().unwrap(), LEADER).unwrap();
    }
}

#[test]
fn an_idle_producer_takes_few_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let config = LogConfig {
        flush: FlushPolicy::Os,
        max_producers: 0,
        // No snapshot is made meanwhile, which would take memory for its bytes.
        checkpoint_bytes: 1 << 40,
        ..LogConfig::default()
    };
    let log = Log::open(dir.path(), config).unwrap();
    let before = resident();
    send(&log, 0);
    let with_one = (resident() - before) / PRODUCERS;
    (1..5).for_each(|sequence| send(&log, sequence));
    let with_five = (resident() - before) / PRODUCERS;
    println!("bytes for each idle producer: {with_one} with one batch, {with_five} with five");
    assert_eq!(log.producer_count() as i64, PRODUCERS);
    assert!(
        (40..130).contains(&with_one),
        "{with_one} bytes with one batch"
    );
    assert!(
        (130..260).contains(&with_five),
        "{with_five} bytes with five"
    );
}
