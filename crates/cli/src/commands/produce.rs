//! `dlog produce`: lines of standard input or of files become records.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use clap::{Args, ValueEnum};
use dlog_client::{Outgoing, Producer, ProducerConfig};
use dlog_storage::record::{Compression, Header};
use indicatif::ProgressBar;
use serde::Deserialize;
use serde_json::json;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, BufReader};
use tokio::time::Instant;

use super::remote::{self, EXIT_CODES, RemoteArgs, key_value};

/// What one line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Input {
    /// The value, or key and value with --key-separator.
    Text,
    /// An object with value and optionally key, headers, timestamp and partition.
    Json,
    /// The value's bytes as hexadecimal digits.
    Hex,
}

/// Options of `dlog produce`.
#[derive(Args, Debug)]
#[command(after_help = EXIT_CODES)]
pub struct ProduceArgs {
    #[command(flatten)]
    remote: RemoteArgs,
    /// Topic; created when it is missing and the broker does that.
    topic: String,
    /// Files to read; standard input without any. Each line is a record.
    files: Vec<PathBuf>,
    /// What separates key and value on a line, for example ":".
    #[arg(short, long, value_name = "TEXT")]
    key_separator: Option<String>,
    /// A key or value that is exactly this text is null.
    #[arg(long, value_name = "TEXT")]
    null_marker: Option<String>,
    /// What one line is.
    #[arg(long, value_enum, default_value_t = Input::Text)]
    input: Input,
    /// Partition; without it the key decides.
    #[arg(short, long)]
    partition: Option<i32>,
    /// A header of every record, name=value; may be repeated.
    #[arg(short = 'H', long = "header", value_parser = key_value, value_name = "NAME=VALUE")]
    headers: Vec<(String, String)>,
    /// Timestamp of every record, Unix ms; now without it.
    #[arg(long, value_name = "MS")]
    timestamp: Option<i64>,
    /// Who must have a record before it is acknowledged: 0 nobody, 1 the leader, all.
    #[arg(long, default_value = "all", value_parser = acks)]
    acks: i16,
    /// Codec: none, gzip, snappy, lz4 or zstd.
    #[arg(short = 'z', long, default_value = "none", value_parser = |text: &str| text.parse::<Compression>().map_err(|e| e.to_string()))]
    compression: Compression,
    /// Most records a second; as many as possible without it.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    rate: Option<u64>,
}

fn acks(text: &str) -> Result<i16, String> {
    match text {
        "all" | "-1" => Ok(-1),
        "0" => Ok(0),
        "1" => Ok(1),
        other => Err(format!("{other:?} is none of 0, 1 and all")),
    }
}

/// A line as `--input json` has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonRecord {
    key: Option<String>,
    value: Option<String>,
    #[serde(default)]
    headers: Vec<(String, Option<String>)>,
    timestamp: Option<i64>,
    partition: Option<i32>,
}

/// A record read from a line.
struct Line {
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<Header>,
    timestamp_ms: Option<i64>,
    partition: Option<i32>,
}

/// Runs `dlog produce`.
pub fn run(arguments: ProduceArgs) -> Result<ExitCode> {
    remote::run(async move { produce(&arguments).await })
}

async fn produce(arguments: &ProduceArgs) -> Result<()> {
    let client = arguments.remote.connect().await?;
    let config = ProducerConfig {
        acks: arguments.acks,
        compression: arguments.compression,
        ..ProducerConfig::default()
    };
    let producer = Producer::new(client, &arguments.topic, config).await?;
    let mut sending = Sending {
        arguments,
        producer,
        sent: 0,
        acknowledged: 0,
        began: Instant::now(),
        progress: progress(arguments),
    };
    if arguments.files.is_empty() {
        sending
            .read(BufReader::new(tokio::io::stdin()), "standard input")
            .await?;
    }
    for path in &arguments.files {
        let file = tokio::fs::File::open(path)
            .await
            .with_context(|| format!("cannot open {}", path.display()))?;
        sending
            .read(
                BufReader::with_capacity(1 << 20, file),
                &path.display().to_string(),
            )
            .await?;
    }
    sending.finish().await
}

/// A counter, when somebody watches and it cannot get between the lines they type.
fn progress(arguments: &ProduceArgs) -> ProgressBar {
    let typed = arguments.files.is_empty() && std::io::stdin().is_terminal();
    if std::io::stderr().is_terminal() && !typed {
        ProgressBar::new_spinner()
    } else {
        ProgressBar::hidden()
    }
}

struct Sending<'a> {
    arguments: &'a ProduceArgs,
    producer: Producer,
    sent: u64,
    acknowledged: u64,
    began: Instant,
    progress: ProgressBar,
}

impl Sending<'_> {
    async fn read(&mut self, mut input: impl AsyncBufRead + Unpin, name: &str) -> Result<()> {
        let mut line = Vec::new();
        let mut number = 0_u64;
        loop {
            line.clear();
            let reading = input.read_until(b'\n', &mut line);
            tokio::pin!(reading);
            // A pause in the input sends what has gathered.
            let read = tokio::select! {
                biased;
                read = &mut reading => read,
                () = tokio::time::sleep(Duration::from_millis(5)) => {
                    self.producer.flush().await?;
                    reading.await
                }
            };
            if read.with_context(|| format!("cannot read {name}"))? == 0 {
                return Ok(());
            }
            number += 1;
            let bare = line.strip_suffix(b"\n").unwrap_or(&line);
            let record = self
                .parse(bare)
                .with_context(|| format!("line {number} of {name}"))?;
            self.send(&record).await?;
        }
    }

    async fn send(&mut self, line: &Line) -> Result<()> {
        if let Some(rate) = self.arguments.rate {
            let due = self.began + Duration::from_secs_f64(self.sent as f64 / rate as f64);
            if due > Instant::now() {
                self.producer.flush().await?;
                tokio::time::sleep_until(due).await;
            }
        }
        let record = Outgoing {
            key: line.key.as_deref(),
            value: line.value.as_deref(),
            headers: &line.headers,
            timestamp_ms: line
                .timestamp_ms
                .or(self.arguments.timestamp)
                .unwrap_or_else(now_ms),
            partition: line.partition.or(self.arguments.partition),
        };
        self.producer.send(record).await?;
        self.sent += 1;
        if self.sent.is_multiple_of(1024) {
            self.count();
        }
        Ok(())
    }

    fn count(&mut self) {
        self.acknowledged += self
            .producer
            .take_delivered()
            .iter()
            .map(|batch| batch.records as u64)
            .sum::<u64>();
        self.progress
            .set_message(format!("{} records acknowledged", self.acknowledged));
        self.progress.tick();
    }

    async fn finish(mut self) -> Result<()> {
        self.producer.flush().await?;
        self.count();
        self.progress.finish_and_clear();
        let seconds = self.began.elapsed().as_secs_f64();
        if self.arguments.remote.json {
            let records = self.acknowledged;
            return remote::print_json(
                &json!({ "topic": self.arguments.topic, "records": records, "seconds": seconds }),
            );
        }
        if std::io::stderr().is_terminal() {
            writeln!(
                std::io::stderr(),
                "{} records acknowledged in {seconds:.1} s",
                self.acknowledged
            )?;
        }
        Ok(())
    }

    fn parse(&self, line: &[u8]) -> Result<Line> {
        let headers = || {
            self.arguments
                .headers
                .iter()
                .map(|(name, value)| header(name, Some(value)))
                .collect()
        };
        let plain = |key: Option<Vec<u8>>, value: Option<Vec<u8>>| Line {
            key,
            value,
            headers: headers(),
            timestamp_ms: None,
            partition: None,
        };
        match self.arguments.input {
            Input::Hex => Ok(plain(None, Some(from_hex(line)?))),
            Input::Json => {
                let record: JsonRecord = serde_json::from_slice(line)?;
                let mut all: Vec<Header> = headers();
                all.extend(
                    record
                        .headers
                        .iter()
                        .map(|(name, value)| header(name, value.as_deref())),
                );
                Ok(Line {
                    key: record.key.map(String::into_bytes),
                    value: record.value.map(String::into_bytes),
                    headers: all,
                    timestamp_ms: record.timestamp,
                    partition: record.partition,
                })
            }
            Input::Text => {
                let (key, value) = match &self.arguments.key_separator {
                    None => (None, line),
                    Some(separator) => {
                        let at = find(line, separator.as_bytes()).with_context(|| {
                            format!("no {separator:?} between key and value (see --key-separator)")
                        })?;
                        (Some(&line[..at]), &line[at + separator.len()..])
                    }
                };
                let marker = self.arguments.null_marker.as_ref().map(String::as_bytes);
                let unless_null = |bytes: &[u8]| (Some(bytes) != marker).then(|| bytes.to_vec());
                Ok(plain(key.and_then(unless_null), unless_null(value)))
            }
        }
    }
}

fn header(name: &str, value: Option<&str>) -> Header {
    Header {
        key: Bytes::copy_from_slice(name.as_bytes()),
        value: value.map(|value| Bytes::copy_from_slice(value.as_bytes())),
    }
}

fn find(line: &[u8], separator: &[u8]) -> Option<usize> {
    if separator.is_empty() {
        return None;
    }
    line.windows(separator.len())
        .position(|window| window == separator)
}

fn from_hex(line: &[u8]) -> Result<Vec<u8>> {
    let digit = |byte: u8| (byte as char).to_digit(16).map(|digit| digit as u8);
    let (pairs, rest) = line.as_chunks::<2>();
    if !rest.is_empty() {
        bail!("an odd number of hexadecimal digits");
    }
    pairs
        .iter()
        .map(|[high, low]| match (digit(*high), digit(*low)) {
            (Some(high), Some(low)) => Ok(high << 4 | low),
            _ => bail!(
                "{:?} are no hexadecimal digits",
                String::from_utf8_lossy(&[*high, *low])
            ),
        })
        .collect()
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    })
}
