//! A program that embeds the log: open, append, read, crash, reopen.
//!
//! `cargo run -p dlog-storage --example embedded [folder]`

use dlog_storage::{Log, LogConfig, StorageError};

fn main() -> Result<(), StorageError> {
    let dir = std::env::args()
        .nth(1)
        .map_or_else(|| std::env::temp_dir().join("dlog-example"), Into::into);
    let log = Log::open(&dir, LogConfig::default())?;
    let offset = log.append(Some(b"greeting"), Some(b"hello"))?;
    println!("appended at offset {offset}; it is on the disk");
    drop(log); // as a crash would: no close, no clean marker

    let log = Log::open(&dir, LogConfig::default())?;
    for record in log.read(log.log_start_offset())? {
        let record = record?;
        let text = |bytes: Option<bytes::Bytes>| {
            String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned()
        };
        println!(
            "{}: {} = {}",
            record.offset,
            text(record.key),
            text(record.value)
        );
    }
    log.close()
}
