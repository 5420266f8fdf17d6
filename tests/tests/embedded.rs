//! The storage engine across real processes: a child appends and says what was acknowledged, is
//! killed with SIGKILL at any moment, and everything it said is in the log afterwards.

#![allow(clippy::unwrap_used)] // A step that fails is a test that fails.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use dlog_storage::{Format, Log, LogConfig, StorageError};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const FOLDER: &str = "DLOG_TEST_CHILD_FOLDER";
const FORMAT: &str = "DLOG_TEST_CHILD_FORMAT";
const WRITERS: usize = 4;

/// Small segments: kills also hit rolls and checkpoints.
fn config(format: Format) -> LogConfig {
    LogConfig {
        format,
        segment_bytes: 20_000,
        checkpoint_bytes: 4_096,
        ..LogConfig::default()
    }
}

fn format_of(name: &str) -> Format {
    if name == "v1" { Format::V1 } else { Format::V2 }
}

/// Not a test: what the child process runs, until it is killed.
#[test]
#[ignore = "started by the other tests as a child process"]
fn child() {
    let Some(folder) = std::env::var_os(FOLDER) else {
        return;
    };
    let format = format_of(&std::env::var(FORMAT).unwrap());
    let log = Log::open(&folder, config(format)).unwrap();
    let life = std::process::id();
    println!("\nopen {}", log.log_end_offset());
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let log = &log;
            scope.spawn(move || {
                for n in 0_u64.. {
                    let value = format!("{life}-{writer}-{n}-{}", "x".repeat((n % 90) as usize));
                    let offset = log.append(None, Some(value.as_bytes())).unwrap();
                    // One write, so that lines of several threads do not mix.
                    std::io::stdout()
                        .write_all(format!("ack {offset} {value}\n").as_bytes())
                        .unwrap();
                }
            });
        }
    });
}

fn start_child(folder: &Path, format: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "child",
            "--ignored",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(FOLDER, folder)
        .env(FORMAT, format)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Reads lines until `enough` were acknowledged, kills, and reads what was said until then.
fn run_until_killed(
    folder: &Path,
    format: &str,
    enough: usize,
    acknowledged: &mut BTreeMap<i64, String>,
) {
    let mut child = start_child(folder, format);
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let (mut seen, mut line) = (0, String::new());
    while lines.read_line(&mut line).unwrap() > 0 {
        // The last line may have been cut by the kill.
        if let Some(whole) = line.strip_suffix('\n')
            && let Some((offset, value)) = whole
                .strip_prefix("ack ")
                .and_then(|ack| ack.split_once(' '))
        {
            let offset = offset.parse().unwrap();
            assert_eq!(
                acknowledged.insert(offset, value.to_owned()),
                None,
                "offset {offset} was given twice"
            );
            seen += 1;
            if seen == enough {
                child.kill().unwrap();
            }
        }
        line.clear();
    }
    child.wait().unwrap();
    assert!(
        seen >= enough,
        "the child ended by itself after {seen} appends"
    );
}

fn kill_again_and_again(format: &str) {
    let seed = dlog_system_tests::seed();
    let mut random = StdRng::seed_from_u64(seed);
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged = BTreeMap::new();
    for life in 0..12 {
        run_until_killed(
            folder.path(),
            format,
            random.random_range(1..400),
            &mut acknowledged,
        );
        // Looked at between lives, so that every recovery is checked, not only the last.
        let log = Log::open(folder.path(), config(format_of(format))).unwrap();
        let mut missing = acknowledged.clone();
        for (next, record) in (0..).zip(log.read(0).unwrap()) {
            let record = record.unwrap();
            assert_eq!(record.offset, next, "life {life}: a hole");
            if let Some(value) = missing.remove(&record.offset) {
                assert_eq!(
                    record.value.as_deref(),
                    Some(value.as_bytes()),
                    "life {life}: offset {}",
                    record.offset
                );
            }
        }
        assert!(
            missing.is_empty(),
            "life {life}: acknowledged and lost: {:?}",
            missing.keys()
        );
    }
    println!(
        "{format}: {} acknowledged appends over 12 kills",
        acknowledged.len()
    );
}

#[test]
fn acknowledged_appends_survive_sigkill() {
    kill_again_and_again("v2");
}

#[test]
fn acknowledged_v1_appends_survive_sigkill() {
    kill_again_and_again("v1");
}

#[test]
fn another_process_is_refused_until_the_owner_is_dead() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = start_child(folder.path(), "v2");
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(
        lines.any(|line| line.unwrap().starts_with("ack ")),
        "the child has the folder open"
    );
    let error = Log::open(folder.path(), LogConfig::default()).unwrap_err();
    assert!(matches!(error, StorageError::Locked { .. }), "{error}");
    assert!(
        error.to_string().contains("in use by another process"),
        "{error}"
    );
    child.kill().unwrap();
    child.wait().unwrap();
    Log::open(folder.path(), LogConfig::default()).expect("the lock died with its owner");
}
