//! `dlog produce`: lines of standard input or of files become records.
//!
//! Invariants: it ends with success only when the broker has acknowledged every record of the input;
//! however it ends, it has sent what it read, waited for it, and says how much was acknowledged. A
//! record is not sent twice: the producer is idempotent (with `--acks all`).

mod input;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use clap::Args;
use dlog_client::{Outgoing, Producer, ProducerConfig};
use dlog_storage::record::{Compression, Header};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::time::Instant;

use super::log::render;
use super::remote::{
    self, EXIT_CODES, INTERRUPTED, RemoteArgs, key_value, now_ms, parse_acks, parse_compression,
};
use input::{Input, Parsed, Parser};

/// Longest line, in bytes: Kafka's brokers take no larger request.
const MAX_LINE_BYTES: u64 = 100 << 20;
/// A pause of the input after which what has gathered goes out.
const PAUSE: Duration = Duration::from_millis(5);

const EXAMPLES: &str = "Examples:
  echo hello | dlog produce greetings
  dlog produce orders --key-separator : orders.txt
  dlog consume orders --from beginning --json | dlog produce copy --input json
  dlog produce users --key-separator : --null-marker NULL   # the line k:NULL deletes k";

/// Options of `dlog produce`.
#[derive(Args, Debug)]
#[command(after_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
pub struct ProduceArgs {
    #[command(flatten)]
    remote: RemoteArgs,
    /// Topic; created when it is missing and the broker does that.
    topic: String,
    /// Files to read; standard input without any. Each line is a record.
    files: Vec<PathBuf>,
    /// What separates key and value on a line, for example ":".
    #[arg(short, long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    key_separator: Option<String>,
    /// A key or value that is exactly this text is null; a null value is a tombstone.
    #[arg(long, value_name = "TEXT")]
    null_marker: Option<String>,
    /// What one line is.
    #[arg(long, value_enum, default_value_t = Input::Text)]
    input: Input,
    /// Partition; without it the key decides, as with Java's client (murmur2).
    #[arg(short, long, value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,
    /// A header of every record, name=value; may be repeated.
    #[arg(short = 'H', long = "header", value_parser = key_value, value_name = "NAME=VALUE")]
    headers: Vec<(String, String)>,
    /// Timestamp of every record, Unix ms; now without it.
    #[arg(long, value_name = "MS")]
    timestamp: Option<i64>,
    /// Who must have a record before it is acknowledged: 0 nobody, 1 the leader, all. Only with all
    /// does the broker recognise a record that is sent again after a failure.
    #[arg(long, default_value = "all", allow_hyphen_values = true, value_parser = parse_acks)]
    acks: i16,
    /// Codec: none, gzip, snappy, lz4 or zstd.
    #[arg(short = 'z', long, default_value = "none", value_parser = parse_compression)]
    compression: Compression,
    /// Level of the codec; its default without it.
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    compression_level: Option<i32>,
    /// Records a second; as many as possible without it.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    rate: Option<u64>,
    /// How long a record is sent again, for example while a broker restarts, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    delivery_timeout: u64,
    /// Bytes of a batch, before compression, that send it.
    #[arg(long, value_name = "BYTES", default_value_t = 64 << 10, value_parser = clap::value_parser!(u32).range(1..=64 << 20))]
    batch_bytes: u32,
}

impl ProduceArgs {
    fn config(&self) -> Result<ProducerConfig> {
        let (codec, level) = (self.compression, self.compression_level);
        codec.check_level(level)?;
        let defaults = ProducerConfig::default();
        let batch_bytes = self.batch_bytes as usize;
        Ok(ProducerConfig {
            acks: self.acks,
            compression: codec,
            compression_level: level,
            batch_bytes,
            max_batch_bytes: defaults.max_batch_bytes.max(batch_bytes),
            delivery_timeout: Duration::from_secs(self.delivery_timeout),
            ..defaults
        })
    }
}

/// Runs `dlog produce`.
pub fn run(arguments: ProduceArgs) -> Result<ExitCode> {
    remote::run(async move { produce(&arguments).await })
}

async fn produce(arguments: &ProduceArgs) -> Result<ExitCode> {
    let config = arguments.config()?;
    let client = arguments.remote.connect().await?;
    let producer = Producer::new(client, &arguments.topic, config).await?;
    let headers = arguments.headers.iter().map(|(name, value)| Header {
        key: Bytes::copy_from_slice(name.as_bytes()),
        value: Some(Bytes::copy_from_slice(value.as_bytes())),
    });
    let mut sending = Sending {
        arguments,
        producer,
        headers: headers.collect(),
        parser: Parser {
            input: arguments.input,
            key_separator: arguments.key_separator.clone(),
            null_marker: arguments.null_marker.clone(),
        },
        pace: arguments.rate.map(Pace::new),
        sent: 0,
        acknowledged: 0,
        began: Instant::now(),
        progress: progress(arguments),
    };
    let (done, interrupted) = tokio::select! {
        done = sending.read_all() => (done, false),
        () = remote::stop_signal() => (Ok(()), true),
    };
    sending.finish(done, interrupted).await
}

/// Where it is in the files, or a counter, when somebody watches; nothing may get between the lines
/// that they type.
fn progress(arguments: &ProduceArgs) -> ProgressBar {
    let typed = arguments.files.is_empty() && std::io::stdin().is_terminal();
    if typed || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let sizes = arguments.files.iter().map(|path| path.metadata());
    let total: u64 = sizes.filter_map(|file| Some(file.ok()?.len())).sum();
    let template = if total > 0 {
        "{bar:40} {bytes} of {total_bytes}  {eta} left  {msg}"
    } else {
        "{spinner} {bytes}  {msg}"
    };
    let bar = ProgressBar::new(total);
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// When the next record is due. A late one is caught up with, so that the rate is exact; a pause of the
/// input is not.
struct Pace {
    rate: f64,
    since: Instant,
    records: u64,
}

impl Pace {
    fn new(rate: u64) -> Self {
        Self {
            rate: rate as f64,
            since: Instant::now(),
            records: 0,
        }
    }

    fn next(&mut self) -> Instant {
        let due = self.since + Duration::from_secs_f64(self.records as f64 / self.rate);
        self.records += 1;
        due
    }

    /// The input had nothing to send.
    fn paused(&mut self, now: Instant) {
        if self.since + Duration::from_secs_f64(self.records as f64 / self.rate) < now {
            *self = Self {
                since: now,
                records: 0,
                ..*self
            };
        }
    }
}

struct Sending<'a> {
    arguments: &'a ProduceArgs,
    producer: Producer,
    headers: Vec<Header>,
    parser: Parser,
    pace: Option<Pace>,
    sent: u64,
    acknowledged: u64,
    began: Instant,
    progress: ProgressBar,
}

impl Sending<'_> {
    async fn read_all(&mut self) -> Result<()> {
        if self.arguments.files.is_empty() {
            let input = BufReader::with_capacity(1 << 16, tokio::io::stdin());
            return self.read(input, "standard input").await;
        }
        for path in &self.arguments.files {
            let name = path.display().to_string();
            let file = tokio::fs::File::open(path)
                .await
                .with_context(|| format!("cannot open {name}"))?;
            self.read(BufReader::with_capacity(1 << 20, file), &name)
                .await?;
        }
        Ok(())
    }

    async fn read(&mut self, mut input: impl AsyncBufRead + Unpin, name: &str) -> Result<()> {
        let mut line = Vec::new();
        for number in 1_u64.. {
            line.clear();
            let whole = self.arguments.input == Input::Whole;
            let reading = read_one(&mut input, &mut line, whole);
            let read = self
                .sending_meanwhile(reading)
                .await?
                .with_context(|| format!("cannot read line {number} of {name}"))?;
            // An empty file is a record without bytes, an empty rest of a file is none.
            if read == 0 && !(whole && number == 1) {
                return Ok(());
            }
            self.progress.inc(read);
            let bare = if whole {
                &line
            } else {
                line.strip_suffix(b"\n").unwrap_or(&line)
            };
            let record = self
                .parser
                .parse(bare)
                .with_context(|| format!("line {number} of {name}"))?;
            self.send(&record).await?;
        }
        Ok(())
    }

    /// Waits for the input; when it pauses, what has gathered goes out.
    async fn sending_meanwhile<T>(&mut self, reading: impl Future<Output = T>) -> Result<T> {
        tokio::pin!(reading);
        tokio::select! {
            biased;
            read = &mut reading => return Ok(read),
            () = tokio::time::sleep(PAUSE) => {}
        }
        let read = tokio::select! {
            read = &mut reading => read,
            flushed = self.producer.flush() => {
                flushed?;
                self.count();
                reading.await
            }
        };
        if let Some(pace) = &mut self.pace {
            pace.paused(Instant::now());
        }
        Ok(read)
    }

    async fn send(&mut self, parsed: &Parsed) -> Result<()> {
        if let Some(due) = self.pace.as_mut().map(Pace::next)
            && due > Instant::now()
        {
            tokio::select! {
                () = tokio::time::sleep_until(due) => {}
                flushed = self.producer.flush() => {
                    flushed?;
                    tokio::time::sleep_until(due).await;
                }
            }
        }
        let all: Vec<Header>;
        let headers = if parsed.headers.is_empty() {
            &self.headers
        } else {
            all = self
                .headers
                .iter()
                .chain(&parsed.headers)
                .cloned()
                .collect();
            &all
        };
        let timestamp_ms = parsed.timestamp_ms.or(self.arguments.timestamp);
        let record = Outgoing {
            key: parsed.key.as_deref(),
            value: parsed.value.as_deref(),
            headers,
            timestamp_ms: timestamp_ms.unwrap_or_else(now_ms),
            partition: parsed.partition.or(self.arguments.partition),
        };
        self.producer.send(record).await?;
        self.sent += 1;
        if self.sent.is_multiple_of(1024) {
            self.count();
        }
        Ok(())
    }

    fn count(&mut self) {
        let delivered = self.producer.take_delivered();
        let records = delivered.iter().map(|batch| batch.records as u64);
        self.acknowledged += records.sum::<u64>();
        self.progress
            .set_message(format!("{} records acknowledged", self.acknowledged));
    }

    /// Waits for what was sent, says what became of it, and how it ended.
    async fn finish(mut self, read: Result<()>, interrupted: bool) -> Result<ExitCode> {
        let flushed = tokio::select! {
            flushed = self.producer.flush() => flushed.map_err(Into::into),
            () = remote::stop_signal() => Err(anyhow::anyhow!("interrupted while waiting for acknowledgements")),
        };
        self.count();
        self.progress.finish_and_clear();
        let (seconds, acknowledged) = (self.began.elapsed().as_secs_f64(), self.acknowledged);
        // Given up, or still without an answer.
        let failed = (self.sent.saturating_sub(acknowledged)).max(self.producer.failed_records());
        let done = read.and(flushed);
        if self.arguments.remote.json {
            remote::print_json(&json!({
                "topic": self.arguments.topic,
                "records": acknowledged,
                "failed": failed,
                "seconds": seconds,
                "interrupted": interrupted,
            }))?;
        } else if done.is_err() || interrupted || std::io::stderr().is_terminal() {
            let failed = match failed {
                0 => String::new(),
                failed => format!(", {failed} not"),
            };
            remote::note(&format!(
                "{} acknowledged{failed}, in {seconds:.1} s",
                render::count(acknowledged, "record")
            ));
        }
        done?;
        ensure!(
            failed == 0,
            "not acknowledged: {}",
            render::count(failed, "record")
        );
        Ok(if interrupted {
            ExitCode::from(INTERRUPTED)
        } else {
            ExitCode::SUCCESS
        })
    }
}

/// Reads a line with its end, or everything; gives how many bytes.
async fn read_one(
    input: &mut (impl AsyncBufRead + Unpin),
    line: &mut Vec<u8>,
    whole: bool,
) -> Result<u64> {
    let mut limited = input.take(MAX_LINE_BYTES + 1);
    let read = if whole {
        limited.read_to_end(line).await?
    } else {
        limited.read_until(b'\n', line).await?
    };
    if read as u64 > MAX_LINE_BYTES {
        bail!("it has more than {MAX_LINE_BYTES} bytes");
    }
    Ok(read as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_caught_up_with_but_not_after_a_pause() {
        let mut pace = Pace::new(10);
        let began = pace.since;
        let at = |ms| began + Duration::from_millis(ms);
        // Nothing here looks at the clock: what a broker held up is due as it was.
        assert_eq!(
            [pace.next(), pace.next(), pace.next()],
            [at(0), at(100), at(200)]
        );
        // Nobody typed for a second.
        pace.paused(at(1300));
        assert_eq!([pace.next(), pace.next()], [at(1300), at(1400)]);
        // A pause that ends before the next record is due changes nothing.
        pace.paused(at(1450));
        assert_eq!(pace.next(), at(1500));
    }

    #[tokio::test]
    async fn lines_and_wholes() {
        let mut input = &b"one\ntwo"[..];
        let mut line = Vec::new();
        assert_eq!(read_one(&mut input, &mut line, false).await.unwrap(), 4);
        assert_eq!(read_one(&mut input, &mut line, true).await.unwrap(), 3);
        assert_eq!(read_one(&mut input, &mut line, false).await.unwrap(), 0);
        assert_eq!(line, b"one\ntwo");
    }
}
