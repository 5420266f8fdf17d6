//! Shared helpers of the system tests: the real `dlog` binary as a process, and a Kafka client that
//! is written for testing and shares no code with the product's own client.
//!
//! * [`command`]: the commands that talk to a broker.
//! * [`server`]: start, kill, restart `dlog serve` on a data folder.
//! * [`wire`]: one connection, one request at a time, and the bytes themselves.
//! * [`produce`]: an idempotent producer that goes on through crashes, and reading a log back.
//! * [`transactions`]: a transactional producer that does the same.
//! * [`history`], a crate of its own: judges what clients recorded, and names each anomaly.
//! * [`mount`]: a small file system that can be filled.
//! * [`requests`]: one well-filled request of every API.
//!
//! Nothing here waits for an amount of time to pass: it waits for a condition, with a bound after
//! which the test fails.

pub mod command;
pub mod mount;
pub mod produce;
pub mod requests;
pub mod server;
pub mod transactions;
pub mod wire;

pub use dlog_history as history;

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How long any one condition is waited for. Generous: a loaded machine is no failure.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `condition` gives a value.
///
/// # Errors
/// When it has given none for [`PATIENCE`].
pub fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> Result<T> {
    let begin = Instant::now();
    loop {
        if let Some(value) = condition() {
            return Ok(value);
        }
        if begin.elapsed() > PATIENCE {
            bail!("waited {PATIENCE:?} for {what}");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Says that a test cannot run here, by name; with `DLOG_TEST_ALL` set that is a failure.
///
/// # Panics
/// With `DLOG_TEST_ALL` set.
pub fn skip(test: &str, why: &str) {
    assert!(
        std::env::var_os("DLOG_TEST_ALL").is_none(),
        "{test} must run, but {why}"
    );
    // Not `eprintln`: the test harness would keep that to itself.
    let _ = std::io::stderr().write_all(format!("SKIPPED {test}: {why}\n").as_bytes());
}

/// The seed of a randomised test: from `DLOG_SEED`, else from the operating system. Printed, so that
/// a failure can be repeated.
pub fn seed() -> u64 {
    let seed = match std::env::var("DLOG_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
    {
        Some(seed) => seed,
        None => rand::random(),
    };
    println!("DLOG_SEED={seed}");
    seed
}
